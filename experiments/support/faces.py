"""Faces: two folders of images, of people apart."""

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
"""Of the training images, the last: they tell the best step of what is trained here."""
FREE = Path(pixelsr.__file__).parent / "samples"
"""Portraits that are free to show, unlike the photos of most data sets."""


@dataclasses.dataclass(frozen=True)
class Portraits:
    """uint8 ``[N, 3, S, S]``; nobody who is in val should be in another part."""

    train: Tensor
    held_out: Tensor
    val: Tensor

    @property
    def checksum(self) -> str:
        """Of all values: tells the same images on any machine."""
        every = torch.cat((self.train, self.held_out, self.val))
        return f"{zlib.crc32(every.numpy().data):08x}"


def find_folder(folder: Path) -> Path:
    """Where `PARTS` are: the folder itself, or ``faces/`` in it.

    Raises:
        OSError: in neither.
    """
    for place in (folder, folder / "faces"):
        if all((place / part).is_dir() for part in PARTS):
            return place
    raise FileNotFoundError(
        f"{folder} does not hold train/ and val/, nor does {folder / 'faces'}; expected folders of "
        "images of faces"
    )


def load_portraits(folder: Path, side: int = SIDE) -> Portraits:
    """All images of both folders, ``[N, 3, side, side]``; unreadable ones are passed over.

    Raises:
        OSError, ValueError: a folder is missing, or holds no image of the size.
    """
    place = find_folder(folder)
    train, val = (load_images(place / part, side, lambda sentence: None) for part in PARTS)
    held_out = min(HELD_OUT, len(train) // 2)
    if not held_out:
        raise ValueError(f"{place / PARTS[0]} holds {len(train)} image, expected at least 2")
    return Portraits(train[:-held_out], train[-held_out:], val)


def check_trained_size(model: str) -> None:
    """That a saved model, a folder or a bundled one, was trained on images of this size.

    Raises:
        ValueError: its `training.toml` tells another one.
    """
    side = trained_size(model)
    if side not in (None, SIDE):
        raise ValueError(
            f"model {model} was trained on {side}x{side} images; the faces are {SIDE}x{SIDE}"
        )


def free_portraits(side: int = SIDE) -> dict[str, Tensor]:
    """Two portraits in the public domain by name, uint8 ``[3, side, side]``."""
    return {
        file.stem.replace("_", " "): small_image(
            open_image(file), size=side, scale_factor=1
        ).low_res
        for file in sorted(FREE.glob("*.png"))
    }
