"""The logits of an image that is edited, computed again only where they change."""
