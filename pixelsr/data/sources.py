"""Where pictures come from: a folder, an idx file, a data set of Hugging Face."""

import os
from pathlib import Path
from typing import Protocol

from PIL import Image

from .folder import Folder
from .hugging_face import PREFIX, is_saved, open_named, open_saved
from .idx import Idx, find_idx


class Source(Protocol):
    """Pictures that are read one by one, in an order that never changes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        """A picture, RGB or grey, and its name for messages.

        Raises:
            ValueError, OSError: it cannot be read; the message names it.
        """

    def fingerprint(self) -> str:
        """Differs where the pictures may differ; takes no decoding."""


def open_source(where: str | os.PathLike[str], size: int) -> Source:
    """The pictures at `where`: a folder (see `Folder`, `open_saved`, `find_idx`), a file (see
    `Idx`), or "hf:NAME", "hf:NAME#SPLIT" (see `open_named`).

    Args:
        size: side that pictures must have at least, for a file whose pictures are all of one size.
    Raises:
        ValueError, OSError: it is none of these, or cannot be opened; the message says why.
    """
    if not str(where):
        raise ValueError("the path of the pictures is empty")
    path = Path(where)
    if str(where).startswith(PREFIX) and not path.exists():
        return open_named(str(where))
    if is_saved(path):
        return open_saved(path)
    if path.is_dir():
        idx = find_idx(path)
        return Idx(idx, size) if idx else Folder(path)
    if path.exists():
        return Idx(path, size)
    raise NotADirectoryError(
        f"{path} is not a folder of pictures, nor an idx file, nor a data set ({PREFIX}NAME)"
    )


def common_side(where: str | os.PathLike[str], default: int) -> int:
    """Return the shorter side of pictures that all have one size, where that is below `default`.

    Reading ends with the first picture that is as large as `default` or of another size than the
    one before; pictures that cannot be read do not count.

    Returns:
        `default` for all other pictures.
    Raises:
        ValueError, OSError: as `open_source` and the source's length.
    """
    source = open_source(where, 1)
    common: tuple[int, int] | None = None
    for index in range(len(source)):
        try:
            size = source[index][1].size
        except (ValueError, OSError):
            continue
        if min(size) >= default or size != (common or size):
            return default
        common = size
    return min(common) if common else default
