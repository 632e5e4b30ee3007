"""The operator `masked_conv2d` on any device, composed of PyTorch's convolution."""

from ..registry import LIBRARY
from .eager import masked_conv2d_cropped

LAYER = "str mask_type, int colors=3, int in_parts=1, int out_parts=1, int dilation=1"
LIBRARY.define(f"masked_conv2d(Tensor x, Tensor weight, Tensor? bias, {LAYER}) -> Tensor")

# PyTorch's own operators provide the gradients, fakes and memory formats.
LIBRARY.impl("masked_conv2d", masked_conv2d_cropped, "CompositeImplicitAutograd")
