"""The digits of MNIST, gray or binarized, in three parts."""

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
"""The last 1/6 of the training images is held out: 10,000 of 60,000."""
BINARIZATION = (
    f"each pixel once Bernoulli(intensity / 255), by pixelsr.data.binarize.binarize with seed "
    f"{SEED}, the test images numbered on after the training images"
)


@dataclasses.dataclass(frozen=True)
class Digits:
    """The images of digits in MNIST's order, uint8 ``[N, 1, S, S]``, with 8-bit intensities."""

    train: Tensor
    held_out: Tensor
    test: Tensor

    @property
    def checksum(self) -> str:
        """The CRC-32 of all values; it identifies the images on any machine."""
        return f"{zlib.crc32(self.joined().contiguous().numpy().data):08x}"

    def joined(self) -> Tensor:
        """Return all images, one part after the other."""
        return torch.cat((self.train, self.held_out, self.test))

    def replaced(self, images: Tensor) -> "Digits":
        """Return a copy with other images in the order of `joined`, split into the same parts."""
        return Digits(*images.split([len(self.train), len(self.held_out), len(self.test)]))


def find_files(folder: Path) -> dict[str, Path]:
    """Return the idx files, gzipped or not, by the keys of `FILES`.

    The files are in the folder or in its subfolder ``mnist/``.

    Raises:
        OSError: a file is missing.
    """
    found = {}
    for part, name in FILES.items():
        folders = folder, folder / "mnist"
        paths = [parent / file for parent in folders for file in (name, f"{name}.gz")]
        there = [path for path in paths if path.is_file()]
        if not there:
            raise FileNotFoundError(
                f"{folder} does not hold {name} or {name}.gz; expected the idx files of MNIST"
            )
        found[part] = there[0]
    return found


def load_gray(folder: Path) -> Digits:
    """Return all digits of MNIST; 255 is ink.

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
    """Return all digits of MNIST, binarized."""
    gray = load_gray(folder)
    return gray.replaced(binarized(gray.joined(), 2, BINARIZE))


def _refuse(sentence: str) -> None:
    raise ValueError(sentence)
