"""The masked convolution, and the gate of a Gated PixelCNN."""

from . import gate, schema, triton

__all__ = ["gate", "schema", "triton"]
