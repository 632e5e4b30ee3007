"""Sheets: many images in one, a row a photo under captions, or a bare grid."""

import dataclasses
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MARGIN, GAP, CAPTION, NAME = 16, 4, 22, 26
FONT_SIZE = 14
BACKGROUND, INK, PALE = "#fafafa", "#333333", "#777777"
TILE, ROW_WIDTH, GRID_WIDTH = 256, 8192, 2048
"""Pixels: a tile is enlarged by the largest whole number that keeps it and its row within these."""
MAX_ROWS, MAX_TILES = 24, 400
"""What a command shows of many photos, or of many images in a grid; it says so."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One photo on the sheet: an image for each caption; the last may be missing."""

    name: str
    tiles: Sequence[Image.Image]


def draw_sheet(
    captions: Sequence[str], rows: Sequence[Row], size: tuple[int, int], scale: int | None = None
) -> Image.Image:
    """A row a photo, its name below it, each column under its caption, if there is any.

    Args:
        rows: at least one.
        size: width and height that every tile is brought to, before it is enlarged.
        scale: each pixel becomes a square of this side; None for tiles of up to `TILE` pixels.
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
    """Images of one size, row by row, in as many rows as columns or one less.

    Args:
        tiles: at least one.
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
    """The name in the letters that Pillow's own font has for sure."""
    return "".join(c if " " <= c <= "~" else "?" for c in name)
