"""MNIST: the digits as they are, and binarized, with the parts that they are used in."""

import dataclasses
import zlib
from pathlib import Path

import torch
from torch import Tensor

from pixelsr.data.binarize import SEED, binarized
from pixelsr.data.load import load_images

SIDE = 28
FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
BINARIZE = "bernoulli"
HELD_OUT = 6
"""One in so many training images is held out, the last ones: 10,000 of 60,000."""
BINARIZATION = (
    f"each pixel once Bernoulli(intensity / 255), by pixelsr.data.binarize.binarize with seed "
    f"{SEED}, the test images numbered on after the training images"
)


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images of digits, uint8 ``[N, 1, S, S]``, intensities of 8 bits, in MNIST's order."""

    train: Tensor
    held_out: Tensor
    test: Tensor

    @property
    def checksum(self) -> str:
        """Of all values: tells the same images on any machine."""
        return f"{zlib.crc32(self.joined().contiguous().numpy().data):08x}"

    def joined(self) -> Tensor:
        """All images, one part after the other."""
        return torch.cat((self.train, self.held_out, self.test))

    def replaced(self, images: Tensor) -> "Digits":
        """Others in place of those that `joined` gives, in the same parts."""
        return Digits(*images.split([len(self.train), len(self.held_out), len(self.test)]))


def find_files(folder: Path) -> dict[str, Path]:
    """The idx files by the keys of `FILES`, gzipped or not, in the folder or ``mnist/`` in it.

    Raises:
        OSError: one is not there.
    """
    found = {}
    for part, name in FILES.items():
        positions = folder, folder / "mnist"
        paths = [place / file for place in positions for file in (name, f"{name}.gz")]
        there = [path for path in paths if path.is_file()]
        if not there:
            raise FileNotFoundError(
                f"{folder} does not hold {name} or {name}.gz; expected the idx files of MNIST"
            )
        found[part] = there[0]
    return found


def load_gray(folder: Path) -> Digits:
    """All digits of MNIST, 255 being ink.

    Raises:
        OSError, ValueError: a file is missing, damaged, or holds too few images.
    """
    files = find_files(folder)
    train, test = (load_images(file, SIDE, _refuse, colors=1) for file in files.values())
    held_out = len(train) // HELD_OUT
    if not held_out:
        raise ValueError(
            f"{files['train']} holds {len(train)} images, expected at least {HELD_OUT}"
        )
    return Digits(train[:-held_out], train[-held_out:], test)


def load_digits(folder: Path) -> Digits:
    """The same, binarized."""
    gray = load_gray(folder)
    return gray.replaced(binarized(gray.joined(), 2, BINARIZE))


def _refuse(sentence: str) -> None:
    raise ValueError(sentence)
