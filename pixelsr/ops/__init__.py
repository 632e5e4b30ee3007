"""The registered operators `torch.ops.pixelsr.*`: schema, PyTorch kernel, fake, autograd.

The compiled library, where it was built, adds kernels for a device under the same names; without
it the PyTorch kernels serve every device.
"""

from . import (
    diagonal_bilstm,
    gate,
    lstm,
    masked_conv2d,
    masked_conv2d_triton,
    noise,
    pixel_cross_entropy,
    sampling,
)
from .compiled import WHY_NO_CUDA, WHY_NOT_COMPILED

__all__ = [
    "WHY_NOT_COMPILED",
    "WHY_NO_CUDA",
    "diagonal_bilstm",
    "gate",
    "lstm",
    "masked_conv2d",
    "masked_conv2d_triton",
    "noise",
    "pixel_cross_entropy",
    "sampling",
]
