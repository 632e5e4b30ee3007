"""Masked convolution by the library's dense one over the rectangle that holds the live taps.

A 5x5 kernel of type "V" has 15 live taps of 25; the dead rows below (and, for a kernel of one row,
the dead columns on the right) are cut off before the convolution, so that they cost nothing. What
stays of dead taps inside the rectangle is multiplied by the mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .masks import causal_mask, live_rectangle


def _crop(
    weight: Tensor, mask_type: str, colours: int, in_parts: int, out_parts: int, shapes_only: bool
) -> tuple[Tensor, Tensor]:
    """The live rectangle of the masked weight, and of the mask."""
    kernel_size = (weight.shape[2], weight.shape[3])
    rows, cols = live_rectangle(kernel_size, mask_type)
    cropped = weight[:, :, :rows, :cols]
    if shapes_only:  # while tracing, sizes may be symbols, of which no mask can be made
        return cropped * 1, torch.ones_like(cropped, dtype=torch.bool)
    mask = causal_mask(
        weight.shape[0],
        weight.shape[1],
        kernel_size,
        mask_type,
        colours=colours,
        in_parts=in_parts,
        out_parts=out_parts,
        device=weight.device,
    )[:, :, :rows, :cols]
    return cropped * mask, mask


def _padding(weight: Tensor, cropped: Tensor, dilation: int) -> tuple[int, int, int, int]:
    """Left, right, top and bottom padding that put the kernel's centre where it was."""
    top, left = dilation * (weight.shape[2] // 2), dilation * (weight.shape[3] // 2)
    bottom = dilation * (cropped.shape[2] - 1) - top
    right = dilation * (cropped.shape[3] - 1) - left
    return left, right, top, bottom


def masked_conv2d_cropped(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask_type: str,
    colours: int = 3,
    in_parts: int = 1,
    out_parts: int = 1,
    dilation: int = 1,
    *,
    shapes_only: bool = False,
) -> Tensor:
    """Equals `reference.masked_conv2d_ref`, without the dead rows of the kernel.

    With `shapes_only`, for tracing, the mask is left out and only shape and strides are right.
    """
    cropped, _ = _crop(weight, mask_type, colours, in_parts, out_parts, shapes_only)
    padded = F.pad(x, _padding(weight, cropped, dilation))
    return F.conv2d(padded, cropped, bias, dilation=dilation)


def masked_conv2d_cropped_backward(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
    mask_type: str,
    colours: int,
    in_parts: int,
    out_parts: int,
    dilation: int,
    needs: tuple[bool, bool, bool],
    *,
    shapes_only: bool = False,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients to the input, the weight (zero at dead taps) and the bias, each where needed."""
    cropped, mask = _crop(weight, mask_type, colours, in_parts, out_parts, shapes_only)
    padding = _padding(weight, cropped, dilation)
    grad_padded, grad_cropped, grad_bias = torch.ops.aten.convolution_backward(
        grad_out,
        F.pad(x, padding),
        cropped,
        [weight.shape[0]],
        [1, 1],
        [0, 0],
        [dilation, dilation],
        False,
        [0, 0],
        1,
        list(needs),
    )
    grad_x = F.pad(grad_padded, [-size for size in padding]) if needs[0] else None
    grad_weight = None
    if needs[1]:
        rows, cols = cropped.shape[2:]
        grad_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        grad_weight[:, :, :rows, :cols] = grad_cropped * mask
    return grad_x, grad_weight, grad_bias if needs[2] else None
