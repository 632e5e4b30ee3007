"""The area average: what a small picture is to a large one."""

import torch
from torch import Tensor


def area_average(images: Tensor, factor: int) -> Tensor:
    """Exact mean of every ``factor`` x ``factor`` block, half rounded to even.

    Args:
        images: uint8 ``[N, C, H, W]``; H and W multiples of `factor`.
        factor: side of a block, in pixels.
    Returns:
        uint8 ``[N, C, H / factor, W / factor]``.
    Raises:
        ValueError: another dtype or rank, or a size that `factor` does not divide.
    """
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise ValueError(
            f"images must be uint8 [N, C, H, W], got {images.dtype} {list(images.shape)}"
        )
    n, colours, height, width = images.shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"{height}x{width} pictures cannot be cut into {factor}x{factor} blocks")
    blocks = images.reshape(n, colours, height // factor, factor, width // factor, factor)
    sums = blocks.sum(dim=(3, 5), dtype=torch.int64)  # exact
    return (sums.double() / (factor * factor)).round().to(torch.uint8)
