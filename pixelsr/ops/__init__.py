"""The registered operators `torch.ops.pixelsr.*`: schemas, PyTorch kernels, fakes and autograd.

If the compiled library was built, it adds kernels for a device under the same names. Otherwise the
PyTorch kernels run on every device.
"""

from pixelsr.utils.system import watch_forks

from . import cross_entropy, gumbel_noise, lstm, masked_conv2d, sampling
from .compiled import WHY_NO_CUDA, WHY_NOT_COMPILED

watch_forks()

__all__ = [
    "WHY_NOT_COMPILED",
    "WHY_NO_CUDA",
    "cross_entropy",
    "gumbel_noise",
    "lstm",
    "masked_conv2d",
    "sampling",
]
