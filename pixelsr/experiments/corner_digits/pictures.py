"""A digit in one of two corners."""

import dataclasses
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...area import area_average
from ..digits import HELD_OUT, load_grey

MAGNIFICATION = 2
"""Of a picture to what models are told of it."""


@dataclasses.dataclass(frozen=True)
class Corners:
    """uint8 ``[N, 1, S, S]``, intensities of 8 bits; the digits are those of MNIST, in order."""

    train: Tensor
    held_out: Tensor
    test: Tensor

    @property
    def checksum(self) -> str:
        """Of all values: tells the same pictures on any machine."""
        checksum = 0
        for images in (self.train, self.held_out, self.test):
            checksum = zlib.crc32(images.contiguous().numpy().data, checksum)
        return f"{checksum:08x}"


def load_corners(folder: Path, seed: int) -> Corners:
    """All digits of MNIST, halved by area average, each in a corner that a fair coin chose.

    The last training digits are held out.

    Raises:
        OSError, ValueError: a file is missing or damaged.
    """
    train, test = (area_average(images, 2) for images in load_grey(folder))
    held_out = max(1, len(train) // HELD_OUT)
    every = torch.cat((train, test))
    coin = torch.Generator().manual_seed(seed)
    side = torch.randint(2, (len(every), 1, 1, 1), generator=coin, dtype=torch.uint8)
    parts = place(every * (1 - side), every * side).split(
        [len(train) - held_out, held_out, len(test)]
    )
    return Corners(*parts)


def place(first: Tensor, second: Tensor) -> Tensor:
    """A picture of two corners, black elsewhere: ``[N, C, h, w]`` each to ``[N, C, 2 h, 2 w]``."""
    height, width = first.shape[2:]
    return F.pad(first, (0, width, 0, height)) + F.pad(second, (width, 0, height, 0))


def corners(images: Tensor) -> tuple[Tensor, Tensor]:
    """What is in the first and in the second corner, ``[N, C, H / 2, W / 2]`` each."""
    height, width = (side // 2 for side in images.shape[2:])
    return images[:, :, :height, :width], images[:, :, height:, width:]


def digits(images: Tensor) -> Tensor:
    """The digit of each picture, ``[N, C, H / 2, W / 2]``; the other corner is black."""
    return torch.maximum(*corners(images))


def elsewhere(images: Tensor) -> Tensor:
    """The pictures without what is in the two corners."""
    rest = images.clone()
    for corner in corners(rest):
        corner.zero_()
    return rest


def told_of(images: Tensor, levels: int) -> Tensor:
    """What tells the digit, but not the corner: it is in both of them, halved by area average.

    Args:
        images: uint8 ``[N, C, H, W]``, below `levels`; of two digits, the sum is in both.
    Returns:
        uint8 ``[N, C, H / 2, W / 2]``, below `levels`.
    """
    first, second = corners(images)
    together = (first.int() + second.int()).clamp(max=levels - 1).to(torch.uint8)
    return area_average(place(together, together), MAGNIFICATION)


def scaled(images: Tensor, levels: int) -> Tensor:
    """Levels as intensities from 0 to 1."""
    return images.float() / (levels - 1)
