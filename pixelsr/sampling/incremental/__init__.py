"""Incremental logits, recomputed only where an edit of the images changes them."""
