"""A folder of pictures as one tensor."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from .pictures import open_picture
from .small import area_resize, centre_square, to_tensor


def load_folder(folder: str | os.PathLike[str], size: int, report: Callable[[str], None]) -> Tensor:
    """Every picture below `folder`, in the order of the sorted paths.

    Each is cut to its centre square and reduced by area average; a square of `size` x `size` stays
    as it is, bit for bit. Hidden files are passed over.

    Args:
        folder: searched recursively.
        size: side of the pictures, in pixels.
        report: receives one sentence for each file that is skipped: unreadable, or too small.
    Returns:
        uint8 ``[N, 3, size, size]``.
    Raises:
        NotADirectoryError: no such folder.
        ValueError: not one usable picture in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is not a folder of pictures")
    pictures = []
    for path in _files(root):
        try:
            pictures.append(_square(path, size))
        except (ValueError, OSError) as error:
            report(f"skipped: {error}")
    if not pictures:
        raise ValueError(f"{root} holds no picture of at least {size}x{size} pixels")
    return torch.stack(pictures)


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and not path.is_dir():
            yield path


def _square(path: Path, size: int) -> Tensor:
    picture = open_picture(path)
    if min(picture.size) < size:
        raise ValueError(f"{path} is {picture.width}x{picture.height}, smaller than {size}x{size}")
    square = to_tensor(picture.crop(centre_square(picture.size)))  # [3, S, S]
    return square if square.shape[-1] == size else area_resize(square, size)
