"""The stateless public layer: validate, choose a backend, call."""

from .. import ops as _ops  # noqa: F401  registers torch.ops.pixelsr
from ..output import Output
from .convolution import gate, masked_conv2d, masked_conv2d_gate
from .logits import add_logits, scale_levels, to_logits
from .loss import nats, pixel_cross_entropy, pixel_cross_entropy_with_logits

__all__ = [
    "Output",
    "add_logits",
    "gate",
    "masked_conv2d",
    "masked_conv2d_gate",
    "nats",
    "pixel_cross_entropy",
    "pixel_cross_entropy_with_logits",
    "scale_levels",
    "to_logits",
]
