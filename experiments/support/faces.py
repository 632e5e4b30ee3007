"""Faces: two folders of images that show different people."""

import dataclasses
import zlib
from pathlib import Path

import torch
from torch import Tensor

import pixelsr
from pixelsr.data.crop import small_image
from pixelsr.data.image_io import open_image
from pixelsr.data.load import load_images
from pixelsr.models.sizes import trained_size

SIDE = 32
PARTS = "train", "val"
HELD_OUT = 500
"""The number of last training images that are held out to choose the best step."""
FREE = Path(pixelsr.__file__).parent / "samples"
"""The folder of portraits that are free to publish, unlike the photos of most data sets."""


@dataclasses.dataclass(frozen=True)
class Portraits:
    """The images of faces, uint8 ``[N, 3, S, S]``; no person in val should be in another part."""

    train: Tensor
    held_out: Tensor
    val: Tensor

    @property
    def checksum(self) -> str:
        """The CRC-32 of all values; it identifies the images on any machine."""
        every = torch.cat((self.train, self.held_out, self.val))
        return f"{zlib.crc32(every.numpy().data):08x}"


def find_folder(folder: Path) -> Path:
    """Return the folder that holds `PARTS`: the folder itself, or ``faces/`` in it.

    Raises:
        OSError: neither holds them.
    """
    for parent in (folder, folder / "faces"):
        if all((parent / part).is_dir() for part in PARTS):
            return parent
    raise FileNotFoundError(
        f"{folder} does not hold train/ and val/, nor does {folder / 'faces'}; expected folders of "
        "images of faces"
    )


def load_portraits(folder: Path, side: int = SIDE) -> Portraits:
    """Return all images of both folders, ``[N, 3, side, side]``, without unreadable ones.

    Raises:
        OSError, ValueError: a folder is missing, or holds no image of the size.
    """
    parent = find_folder(folder)
    train, val = (load_images(parent / part, side, lambda sentence: None) for part in PARTS)
    held_out = min(HELD_OUT, len(train) // 2)
    if not held_out:
        raise ValueError(f"{parent / PARTS[0]} holds {len(train)} image, expected at least 2")
    return Portraits(train[:-held_out], train[-held_out:], val)


def check_trained_size(model: str) -> None:
    """Check that a saved or bundled model was trained on images of `SIDE` pixels.

    Raises:
        ValueError: its `training.toml` gives another size.
    """
    side = trained_size(model)
    if side not in (None, SIDE):
        raise ValueError(
            f"model {model} was trained on {side}x{side} images; the faces are {SIDE}x{SIDE}"
        )


def free_portraits(side: int = SIDE) -> dict[str, Tensor]:
    """Return two portraits in the public domain by name, uint8 ``[3, side, side]``."""
    return {
        file.stem.replace("_", " "): small_image(
            open_image(file), size=side, scale_factor=1
        ).low_res
        for file in sorted(FREE.glob("*.png"))
    }
