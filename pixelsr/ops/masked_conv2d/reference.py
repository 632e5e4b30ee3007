"""The reference implementation of the masked convolution and the gate in plain PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr.masks import causal_mask


def mask_of(weight: Tensor, mask_type: str, colors: int, in_parts: int, out_parts: int) -> Tensor:
    """Return the mask of a weight, on its device."""
    out_channels, in_channels, height, width = (int(size) for size in weight.shape)
    return causal_mask(
        in_channels,
        out_channels,
        (height, width),
        mask_type=mask_type,
        colors=colors,
        in_parts=in_parts,
        out_parts=out_parts,
        device=weight.device,
    )


def masked_conv2d_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask_type: str,
    colors: int = 3,
    in_parts: int = 1,
    out_parts: int = 1,
    dilation: int = 1,
) -> Tensor:
    """Return ``F.conv2d(x, weight * causal_mask(...), bias, padding="same", ...)``."""
    mask = mask_of(weight, mask_type, colors, in_parts, out_parts)
    padding = (dilation * (weight.shape[2] // 2), dilation * (weight.shape[3] // 2))
    return F.conv2d(x, weight * mask, bias, padding=padding, dilation=dilation)


def gate_ref(x: Tensor) -> Tensor:
    """Return ``tanh(a) * sigmoid(b)``, where a and b are the two halves of the channels."""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)
