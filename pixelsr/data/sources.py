"""Where pictures come from: a folder, an idx file, a data set of Hugging Face."""

import os
from pathlib import Path
from typing import Protocol

from PIL import Image

from .folder import Folder
from .hugging_face import PREFIX, is_saved, open_named, open_saved
from .idx import Idx


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
    """The pictures at `where`: a folder (see `Folder`, `open_saved`), a file (see `Idx`), or
    "hf:NAME", "hf:NAME#SPLIT" (see `open_named`).

    Args:
        size: side that pictures must have at least, for a file whose pictures are all of one size.
    Raises:
        ValueError, OSError: it is none of these, or cannot be opened; the message says why.
    """
    path = Path(where)
    if str(where).startswith(PREFIX) and not path.exists():
        return open_named(str(where))
    if is_saved(path):
        return open_saved(path)
    if path.is_dir():
        return Folder(path)
    if path.exists():
        return Idx(path, size)
    raise NotADirectoryError(
        f"{path} is not a folder of pictures, nor an idx file, nor a data set ({PREFIX}NAME)"
    )
