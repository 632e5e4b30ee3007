"""The registered operators `torch.ops.pixelsr.*`: schema, PyTorch kernel, fake, autograd.

The compiled library, where it was built, adds kernels for a device under the same names; without
it the PyTorch kernels serve every device.
"""

from . import cross_entropy, gumbel_noise, lstm, masked_conv2d, sampling
from .compiled import WHY_NO_CUDA, WHY_NOT_COMPILED

__all__ = [
    "WHY_NOT_COMPILED",
    "WHY_NO_CUDA",
    "cross_entropy",
    "gumbel_noise",
    "lstm",
    "masked_conv2d",
    "sampling",
]
