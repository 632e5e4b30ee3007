"""The stateless public functions: each checks its arguments, chooses a backend and calls it."""

from pixelsr import ops as _ops  # noqa: F401  registers torch.ops.pixelsr
from pixelsr.ops.cross_entropy.logits_head import LogitsHead

from .convolution import gate, masked_conv2d, masked_conv2d_gate
from .logits import add_logits, check_scale_factor, normalize_images, to_logits
from .loss import nll, pixel_cross_entropy, pixel_cross_entropy_with_logits
from .lstm import diagonal_bilstm, diagonal_lstm, row_lstm

__all__ = [
    "LogitsHead",
    "add_logits",
    "check_scale_factor",
    "diagonal_bilstm",
    "diagonal_lstm",
    "gate",
    "masked_conv2d",
    "masked_conv2d_gate",
    "nll",
    "normalize_images",
    "pixel_cross_entropy",
    "pixel_cross_entropy_with_logits",
    "row_lstm",
    "to_logits",
]
