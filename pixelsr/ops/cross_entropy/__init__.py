"""The cross-entropy of pixels, from logits and fused with the output layers."""

from . import schema

__all__ = ["schema"]
