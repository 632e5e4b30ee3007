"""The masked convolution by PyTorch's dense convolution over the rectangle of live taps.

A 5x5 kernel of type "V" has 15 live taps out of 25. The dead rows at the bottom (and, for a kernel
of one row, the dead columns on the right) are cropped before the convolution, so that they cost
nothing. The mask zeroes the dead taps that remain inside the rectangle.
"""

import torch.nn.functional as F
from torch import Tensor

from pixelsr.masks import live_rectangle

from .reference import mask_of


def masked_conv2d_cropped(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask_type: str,
    colors: int = 3,
    in_parts: int = 1,
    out_parts: int = 1,
    dilation: int = 1,
) -> Tensor:
    """Run `reference.masked_conv2d_ref` without the dead rows of the kernel.

    Autograd derives the gradients, which are cropped in the same way.
    """
    height, width = (int(size) for size in weight.shape[2:])
    mask = mask_of(weight, mask_type, colors, in_parts, out_parts)
    rows, cols = live_rectangle((height, width), mask_type)
    live = weight[:, :, :rows, :cols] * mask[:, :, :rows, :cols]
    top, left = dilation * (height // 2), dilation * (width // 2)
    bottom, right = dilation * (rows - 1) - top, dilation * (cols - 1) - left
    # PyTorch's convolution pads both sides equally, without a copy. Only the difference is padded
    # by a copy.
    uneven = (left - right, 0, top, bottom)
    if x.shape[-2] + bottom < 0:  # a mask that ends above all rows of the image
        x, uneven = F.pad(x, (0, 0, top, 0)), (left - right, 0, 0, bottom)
    padded = F.pad(x, uneven) if any(uneven) else x
    return F.conv2d(padded, live, bias, padding=(0, right), dilation=dilation)
