"""Conversion between 8-bit intensities and the levels of a model with fewer than 256."""

import torch
from torch import Tensor

from pixelsr.config.models import check_level_count


def to_levels(images: Tensor, levels: int) -> Tensor:
    """Convert intensities 0 .. 255 to levels 0 .. levels - 1: ``images * levels // 256``.

    With 2 levels this is a threshold: intensities of 128 or more become white. For another choice
    see `pixelsr.data.binarize`.

    Args:
        images: uint8 of any shape.
        levels: 2 to 256; with 256 `images` itself is returned.
    Returns:
        uint8, the shape of `images`.
    Raises:
        ValueError: the dtype is not uint8, or the number of levels is out of range.
    """
    _check(images, levels)
    if levels == 256:
        return images
    return (images.int() * levels // 256).to(torch.uint8)


def from_levels(images: Tensor, levels: int) -> Tensor:
    """Convert levels to intensities: ``ceil(images * 255 / (levels - 1))``.

    The first level becomes black and the last white; `to_levels` inverts this conversion.

    Args:
        images: uint8 of any shape, below `levels`.
        levels: 2 to 256; with 256 `images` itself is returned.
    Returns:
        uint8, the shape of `images`.
    Raises:
        ValueError: the dtype is not uint8, the number of levels is out of range, or a level is
            not below `levels`.
    """
    _check(images, levels)
    if levels == 256:
        return images
    if images.numel() and int(images.max()) >= levels:
        raise ValueError(f"values must be below {levels}, got {int(images.max())}")
    return (-(images.int() * -255 // (levels - 1))).to(torch.uint8)


def _check(images: Tensor, levels: int) -> None:
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, got {images.dtype}")
    check_level_count(levels)
