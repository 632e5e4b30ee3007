"""The cross-entropy of pixels, without logits in memory and from given logits."""
