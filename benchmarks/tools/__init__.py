"""The programs that measure on their own, and those that write reports and tables."""
