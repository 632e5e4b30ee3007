"""The cross-entropy of pixels, computed from logits or fused with the output layers."""

from . import schema

__all__ = ["schema"]
