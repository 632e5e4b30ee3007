"""The registered operators `torch.ops.pixelsr.*`: schema, PyTorch kernel, fake, autograd.

The compiled library, where it was built, adds kernels for a device under the same names; without
it the PyTorch kernels serve every device.
"""

from . import masked_conv2d, noise, sampling
from .compiled import WHY_NOT_COMPILED

__all__ = ["WHY_NOT_COMPILED", "masked_conv2d", "noise", "sampling"]
