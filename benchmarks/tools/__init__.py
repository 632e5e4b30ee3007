"""Programs that measure on their own, and that write reports and tables."""
