"""Memory formats: the Triton kernels want the channels of a pixel side by side."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Do the channels of a pixel stand side by side? Said of what has several pixels."""
    return x.stride(1) == 1 and x.shape[2] * x.shape[3] > 1


def side_by_side(x: Tensor) -> Tensor:
    """`x`, or a copy, with any distance from pixel to pixel."""
    return x if is_channels_last(x) else dense(x)


def dense(x: Tensor) -> Tensor:
    """`x`, or a copy, with nothing between the pixels."""
    return x.contiguous(memory_format=torch.channels_last)


def empty_dense(like: Tensor, channels: int) -> Tensor:
    """Of the dtype and size of `like`."""
    images, _, height, width = like.shape
    return torch.empty(
        (images, channels, height, width),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )


def as_convolutions_do(out: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Channels last where the input or the weight is, as the library's convolution has it."""
    return out if is_channels_last(x) or is_channels_last(weight) else out.contiguous()
