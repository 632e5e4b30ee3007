"""Contact sheets: many images in one, as captioned rows or as a plain grid."""

import dataclasses
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MARGIN, GAP, CAPTION, NAME = 16, 4, 22, 26
FONT_SIZE = 14
BACKGROUND, INK, PALE = "#fafafa", "#333333", "#777777"
TILE, ROW_WIDTH, GRID_WIDTH = 256, 8192, 2048
"""Limits in pixels: a tile is enlarged by the largest integer that keeps it and its row within."""
MAX_ROWS, MAX_TILES = 24, 400
"""The most rows of a sheet and tiles of a grid; a command reports what it leaves out."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the sheet: an image for each caption; the last images may be missing."""

    name: str
    tiles: Sequence[Image.Image]


def draw_sheet(
    captions: Sequence[str], rows: Sequence[Row], size: tuple[int, int], scale: int | None = None
) -> Image.Image:
    """Draw the rows, each with its name below it, and the captions, if any, above the columns.

    Args:
        rows: at least one row.
        size: width and height that every tile is resized to before it is enlarged.
        scale: side of the square that each pixel becomes; None enlarges tiles to at most `TILE`
            pixels.
    """
    scale = scale or _scale(size, len(captions), ROW_WIDTH)
    top = MARGIN + (CAPTION if any(captions) else 0)
    width, height = (scale * side for side in size)
    sheet = Image.new(
        "RGB",
        (
            2 * MARGIN + len(captions) * (width + GAP) - GAP,
            top + len(rows) * (height + NAME),
        ),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for k, caption in enumerate(captions):
        x = MARGIN + k * (width + GAP)
        draw.text((x + width // 2, MARGIN), caption, INK, font, anchor="ma")
    for r, row in enumerate(rows):
        y = top + r * (NAME + height)
        for k, tile in enumerate(row.tiles):
            large = tile.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(large, (MARGIN + k * (width + GAP), y))
        draw.text((MARGIN, y + height + 4), _printable(row.name), PALE, font)
    return sheet


def draw_grid(tiles: Sequence[Image.Image]) -> Image.Image:
    """Draw images of one size in a grid, row by row; it has as many rows as columns, or one fewer.

    Args:
        tiles: at least one image.
    """
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    scale = _scale(tiles[0].size, columns, GRID_WIDTH)
    width, height = (scale * side for side in tiles[0].size)
    border = 2 * MARGIN - GAP
    grid = Image.new(
        "RGB", (border + columns * (width + GAP), border + rows * (height + GAP)), BACKGROUND
    )
    for k, tile in enumerate(tiles):
        row, column = divmod(k, columns)
        large = tile.resize((width, height), Image.Resampling.NEAREST)
        grid.paste(large, (MARGIN + column * (width + GAP), MARGIN + row * (height + GAP)))
    return grid


def _scale(size: tuple[int, int], columns: int, row_width: int) -> int:
    return max(1, min(TILE // max(size), (row_width // columns - GAP) // size[0]))


def _printable(name: str) -> str:
    """Replace all but printable ASCII by "?", because Pillow's default font may lack the rest."""
    return "".join(c if " " <= c <= "~" else "?" for c in name)
