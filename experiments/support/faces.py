"""Faces: two folders of images that show different people."""

from pathlib import Path

from torch import Tensor

import pixelsr
from pixelsr.data.crop import small_image
from pixelsr.data.image_io import open_image
from pixelsr.data.load import load_images
from pixelsr.models.base import PixelModel
from pixelsr.models.sizes import trained_size

from .image_split import ImageSplit

SIDE = 32
PARTS = "train", "val"
HELD_OUT = 500
"""The number of last training images that are held out to choose the best step."""
FREE = Path(pixelsr.__file__).parent / "samples"
"""The folder of portraits that are free to publish, unlike the photos of most data sets."""


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


def load_portraits(folder: Path, side: int = SIDE) -> ImageSplit:
    """Return all images of both folders, ``[N, 3, side, side]``, without unreadable ones.

    The images in val are the test images: no person in them should be in another part.

    Raises:
        OSError, ValueError: a folder is missing, or holds no image of the size.
    """
    parent = find_folder(folder)
    train, val = (load_images(parent / part, side, lambda sentence: None) for part in PARTS)
    held_out = min(HELD_OUT, len(train) // 2)
    if not held_out:
        raise ValueError(f"{parent / PARTS[0]} holds {len(train)} image, expected at least 2")
    return ImageSplit(train[:-held_out], train[-held_out:], val)


def check_face_model(name: str, model: PixelModel) -> None:
    """Check that a saved or bundled model draws RGB images, and was trained on `SIDE` pixels.

    Raises:
        ValueError: it draws others, or its `training.toml` gives another size.
    """
    if (model.colors, model.levels) != (3, 256):
        raise ValueError(
            f"model {name} draws {model.levels} levels of {model.colors} colors, expected 256 "
            "levels of 3 colors"
        )
    side = trained_size(name)
    if side not in (None, SIDE):
        raise ValueError(
            f"model {name} was trained on {side}x{side} images; the faces are {SIDE}x{SIDE}"
        )


def free_portraits(side: int = SIDE) -> dict[str, Tensor]:
    """Return two portraits in the public domain by name, uint8 ``[3, side, side]``."""
    return {
        file.stem.replace("_", " "): small_image(
            open_image(file), size=side, scale_factor=1
        ).low_res
        for file in sorted(FREE.glob("*.png"))
    }
