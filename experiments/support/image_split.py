"""The images of an experiment in three parts."""

import dataclasses
import zlib

import torch
from torch import Tensor
from typing_extensions import Self


@dataclasses.dataclass(frozen=True)
class ImageSplit:
    """Images for training, for choosing the best step, and for the results.

    All are uint8 ``[N, C, S, S]`` with 8-bit intensities.
    """

    train: Tensor
    held_out: Tensor
    test: Tensor

    @property
    def checksum(self) -> str:
        """The CRC-32 of all values; it identifies the images on any machine."""
        return checksum(self.joined())

    def joined(self) -> Tensor:
        """Return all images, one part after the other."""
        return torch.cat((self.train, self.held_out, self.test))

    def replaced(self, images: Tensor) -> Self:
        """Return a copy with other images in the order of `joined`, split into the same parts."""
        sizes = [len(self.train), len(self.held_out), len(self.test)]
        return type(self)(*images.split(sizes))


def checksum(images: Tensor) -> str:
    """Return the CRC-32 of all values as hexadecimal digits."""
    return f"{zlib.crc32(images.contiguous().numpy().data):08x}"
