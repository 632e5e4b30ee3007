"""Memory formats. The Triton kernels need the channels of a pixel next to each other."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Return True if `x` is channels-last; always False for 1x1 maps."""
    return x.stride(1) == 1 and x.shape[2] * x.shape[3] > 1


def side_by_side(x: Tensor) -> Tensor:
    """Return `x` if it is channels-last, with any stride between pixels; otherwise a copy."""
    return x if is_channels_last(x) else dense(x)


def dense(x: Tensor) -> Tensor:
    """Return `x` if it is dense and channels-last; otherwise a copy."""
    return x.contiguous(memory_format=torch.channels_last)


def empty_dense(like: Tensor, channels: int) -> Tensor:
    """Return an uninitialized channels-last map of the dtype and size of `like`."""
    images, _, height, width = like.shape
    return torch.empty(
        (images, channels, height, width),
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )


def as_convolutions_do(out: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Convert `out` to the memory format that PyTorch's convolution would return.

    This is channels-last if the input or the weight is, otherwise contiguous.
    """
    return out if is_channels_last(x) or is_channels_last(weight) else out.contiguous()
