"""The digits of MNIST, gray or binarized, in three parts."""

from pathlib import Path

from pixelsr.data.binarize import SEED, binarized
from pixelsr.data.load import load_images

from .image_split import ImageSplit

SIDE = 28
FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
BINARIZE = "bernoulli"
HELD_OUT = 6
"""The last 1/6 of the training images is held out: 10,000 of 60,000."""
BINARIZATION = (
    f"each pixel once Bernoulli(intensity / 255), by pixelsr.data.binarize.binarize with seed "
    f"{SEED}, the test images numbered on after the training images"
)


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


def load_gray(folder: Path) -> ImageSplit:
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
    return ImageSplit(train[:-held_out], train[-held_out:], test)


def load_digits(folder: Path) -> ImageSplit:
    """Return all digits of MNIST, binarized."""
    gray = load_gray(folder)
    return gray.replaced(binarized(gray.joined(), 2, BINARIZE))


def _refuse(sentence: str) -> None:
    raise ValueError(sentence)
