"""Sheets of pictures as PNG files."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ..data.small import from_tensor
from ..files import write_whole
from ..sheet import Row, draw_sheet


def write_sheet(
    path: Path, rows: Mapping[str, Tensor], captions: Sequence[str] = (), scale: int = 3
) -> None:
    """Write a file, whole or not at all: a row of pictures over each name.

    Args:
        rows: uint8 ``[K, C, H, W]``, intensities of 8 bits; all of one size, and equally many.
        captions: of the K columns; none leaves them bare.
        scale: each pixel becomes a square of this side.
    """
    images = next(iter(rows.values()))
    size = images.shape[3], images.shape[2]
    lines = [Row(name, [from_tensor(tile) for tile in tiles]) for name, tiles in rows.items()]
    sheet = draw_sheet(captions or [""] * len(images), lines, size, scale)
    file = io.BytesIO()
    sheet.save(file, format="PNG", optimize=True)
    write_whole(path, file.getvalue())
