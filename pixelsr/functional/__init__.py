"""The stateless public layer: validate, choose a backend, call."""

from pixelsr import ops as _ops  # noqa: F401  registers torch.ops.pixelsr
from pixelsr.ops.cross_entropy.logits_head import Output

from .convolution import gate, masked_conv2d, masked_conv2d_gate
from .logits import add_logits, check_magnified, scale_levels, to_logits
from .loss import nats, pixel_cross_entropy, pixel_cross_entropy_with_logits
from .lstm import diagonal_bilstm, diagonal_lstm, row_lstm

__all__ = [
    "Output",
    "add_logits",
    "check_magnified",
    "diagonal_bilstm",
    "diagonal_lstm",
    "gate",
    "masked_conv2d",
    "masked_conv2d_gate",
    "nats",
    "pixel_cross_entropy",
    "pixel_cross_entropy_with_logits",
    "row_lstm",
    "scale_levels",
    "to_logits",
]
