"""Images with a digit in one of two corners."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr.data.downsample import area_average

from ..support.digits import load_gray
from ..support.image_split import ImageSplit

SCALE_FACTOR = 2
"""The scale factor from the models' input to an image."""


def load_corners(folder: Path, seed: int) -> ImageSplit:
    """Return all digits of MNIST, halved by area averages, each in a corner chosen by a coin.

    Raises:
        OSError, ValueError: a file is missing, damaged, or holds too few images.
    """
    gray = load_gray(folder)
    every = area_average(gray.joined(), 2)
    coin = torch.Generator().manual_seed(seed)
    side = torch.randint(2, (len(every), 1, 1, 1), generator=coin, dtype=torch.uint8)
    return gray.replaced(place(every * (1 - side), every * side))


def place(first: Tensor, second: Tensor) -> Tensor:
    """Place two images ``[N, C, h, w]`` in the corners of black ones, ``[N, C, 2 h, 2 w]``."""
    height, width = first.shape[2:]
    return F.pad(first, (0, width, 0, height)) + F.pad(second, (width, 0, height, 0))


def corners(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return views of the first and the second corner, ``[N, C, H / 2, W / 2]`` each."""
    height, width = (side // 2 for side in images.shape[2:])
    return images[:, :, :height, :width], images[:, :, height:, width:]


def digits(images: Tensor) -> Tensor:
    """Return the digit of each image, ``[N, C, H / 2, W / 2]``; the other corner is black."""
    return torch.maximum(*corners(images))


def elsewhere(images: Tensor) -> Tensor:
    """Return a copy of the images with both corners set to black."""
    rest = images.clone()
    for corner in corners(rest):
        corner.zero_()
    return rest


def ambiguous_input(images: Tensor, levels: int) -> Tensor:
    """Return inputs that show the digit in both corners, halved by area averages.

    They determine the digit but not the corner. If an image has two digits, both corners show
    their sum.

    Args:
        images: uint8 ``[N, C, H, W]``, below `levels`.
    Returns:
        uint8 ``[N, C, H / 2, W / 2]``, below `levels`.
    """
    first, second = corners(images)
    together = (first.int() + second.int()).clamp(max=levels - 1).to(torch.uint8)
    return area_average(place(together, together), SCALE_FACTOR)


def scaled(images: Tensor, levels: int) -> Tensor:
    """Scale levels to intensities from 0 to 1."""
    return images.float() / (levels - 1)
