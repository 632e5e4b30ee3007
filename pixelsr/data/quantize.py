"""Between intensities of 8 bits and the levels of a model that knows fewer."""

import torch
from torch import Tensor

from pixelsr.utils.levels import check_level_count


def to_levels(images: Tensor, levels: int) -> Tensor:
    """Intensities 0 .. 255 as levels 0 .. levels - 1: ``images * levels // 256``.

    With 2 levels that is a threshold, white from 128 on; `pixelsr.data.binarize` has the choice.

    Args:
        images: uint8 of any shape.
        levels: 2 to 256; with 256 the images themselves come back.
    Returns:
        uint8, the shape of `images`.
    Raises:
        ValueError: another dtype or number of levels.
    """
    _check(images, levels)
    if levels == 256:
        return images
    return (images.int() * levels // 256).to(torch.uint8)


def from_levels(images: Tensor, levels: int) -> Tensor:
    """Levels as intensities, the first black and the last white; `to_levels` undoes it.

    Equals ``ceil(images * 255 / (levels - 1))``.

    Args:
        images: uint8 of any shape, below `levels`.
        levels: 2 to 256; with 256 the images themselves come back.
    Returns:
        uint8, the shape of `images`.
    Raises:
        ValueError: another dtype or number of levels, or a value of `levels` or more.
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
