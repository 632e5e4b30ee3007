"""The cross-entropy of pixels, from features without logits in memory, or from given logits."""
