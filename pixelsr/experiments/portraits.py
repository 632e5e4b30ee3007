"""Faces: two folders of pictures, of people apart."""

import dataclasses
import zlib
from pathlib import Path

from torch import Tensor

from ..data.load import load_pictures
from ..data.pictures import open_picture
from ..data.small import small_picture
from ..models.sizes import trained_size

SIDE = 32
PARTS = "train", "val"
FREE = Path(__file__).parent.parent / "samples"
"""Portraits that are free to show, unlike the photos of most data sets."""


@dataclasses.dataclass(frozen=True)
class Portraits:
    """uint8 ``[N, 3, S, S]``; nobody is in both."""

    train: Tensor
    val: Tensor

    @property
    def checksum(self) -> str:
        """Of all values: tells the same pictures on any machine."""
        return f"{zlib.crc32(self.val.numpy().data, zlib.crc32(self.train.numpy().data)):08x}"


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
        "pictures of faces"
    )


def load_portraits(folder: Path, side: int = SIDE) -> Portraits:
    """All pictures of both folders, ``[N, 3, side, side]``; unreadable ones are passed over.

    Raises:
        OSError, ValueError: a folder is missing, or holds no picture of the size.
    """
    place = find_folder(folder)
    return Portraits(*(load_pictures(place / part, side, lambda sentence: None) for part in PARTS))


def check_trained_size(model: str) -> None:
    """That a saved model, a folder or a bundled one, was trained on pictures of this size.

    Raises:
        ValueError: its `training.toml` tells another one.
    """
    side = trained_size(model)
    if side not in (None, SIDE):
        raise ValueError(
            f"model {model} was trained on {side}x{side} pictures; the faces are {SIDE}x{SIDE}"
        )


def free_portraits(side: int = SIDE) -> dict[str, Tensor]:
    """Two portraits in the public domain by name, uint8 ``[3, side, side]``."""
    return {
        file.stem.replace("_", " "): small_picture(
            open_picture(file), size=side, magnification=1
        ).low_res
        for file in sorted(FREE.glob("*.png"))
    }
