"""Area averages of images, including partly hidden ones."""

import torch
import torch.nn.functional as F
from torch import Tensor


def check_bytes(images: Tensor) -> None:
    """Check that images are uint8 ``[N, C, H, W]``.

    Raises:
        ValueError: the dtype or rank is wrong.
    """
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise ValueError(
            f"images must be uint8 [N, C, H, W], got {images.dtype} {list(images.shape)}"
        )


def area_average(images: Tensor, factor: int) -> Tensor:
    """Return the exact mean of every ``factor`` x ``factor`` block, rounded half to even.

    Args:
        images: uint8 ``[N, C, H, W]``; H and W multiples of `factor`.
        factor: side of a block, in pixels.
    Returns:
        uint8 ``[N, C, H / factor, W / factor]``.
    Raises:
        ValueError: the dtype or rank is wrong, or `factor` does not divide the size.
    """
    check_bytes(images)
    n, colors, height, width = images.shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"{height}x{width} images cannot be cut into {factor}x{factor} blocks")
    blocks = images.reshape(n, colors, height // factor, factor, width // factor, factor)
    sums = blocks.sum(dim=(3, 5), dtype=torch.int64)  # exact
    return (sums.double() / (factor * factor)).round().to(torch.uint8)


SWEEPS = 32
"""Smoothing iterations at each scale; more make no visible difference."""


def visible_average(images: Tensor, hidden: Tensor, factor: int) -> Tensor:
    """Return the `area_average` of the visible pixels alone; hidden pixels do not affect it.

    A completely hidden block is filled in smoothly from its surroundings: each is about the mean of
    its four neighbors, with replicated image borders.

    Args:
        images: uint8 ``[N, C, H, W]``; H and W multiples of `factor`.
        hidden: bool ``[N, H, W]``.
        factor: side of a block, in pixels.
    Returns:
        uint8 ``[N, C, H / factor, W / factor]``; equal to `area_average` where nothing is hidden.
    Raises:
        ValueError: an image has no visible pixel.
    """
    if hidden.flatten(1).all(1).any():
        raise ValueError("all of the image is hidden, expected at least one visible pixel")
    visible = (~hidden)[:, None].double()
    means = _filled(_block_sums(images * visible, factor), _block_sums(visible, factor))
    return means.round().to(torch.uint8)


def _filled(sums: Tensor, counts: Tensor) -> Tensor:
    """Return ``sums / counts``, ``[N, C, h, w]``; zero counts get a guess from a coarser scale."""
    known = counts > 0
    if known.all():
        return sums / counts
    height, width = sums.shape[2:]
    coarse = _filled(_block_sums(sums, 2), _block_sums(counts, 2))
    guess = F.interpolate(coarse, scale_factor=2, mode="bilinear")[:, :, :height, :width]
    means = torch.where(known, sums / counts.clamp(min=1), guess)
    for _ in range(SWEEPS):
        framed = F.pad(means, (1, 1, 1, 1), mode="replicate")
        across = framed[:, :, 1:-1, :-2] + framed[:, :, 1:-1, 2:]
        beside = across + framed[:, :, :-2, 1:-1] + framed[:, :, 2:, 1:-1]
        means = torch.where(known, means, beside / 4)
    return means


def _block_sums(values: Tensor, factor: int) -> Tensor:
    """Return exact sums of ``factor`` x ``factor`` blocks of ``[N, C, H, W]``, zero-padded."""
    height, width = values.shape[2:]
    padded = F.pad(values, (0, -width % factor, 0, -height % factor))
    return padded.unflatten(3, (-1, factor)).unflatten(2, (-1, factor)).sum((3, 5))
