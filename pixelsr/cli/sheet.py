"""The sheet of `pixelsr enlarge`: each photo's input, its enlargements and, where known, itself."""

import dataclasses
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..data.small import SmallPicture, from_tensor

MARGIN, GAP, CAPTION, NAME = 16, 4, 22, 26
FONT_SIZE = 14
BACKGROUND, INK, PALE = "#fafafa", "#333333", "#777777"


@dataclasses.dataclass(frozen=True)
class Row:
    """One photo on the sheet."""

    name: str
    small: SmallPicture
    samples: Tensor  # uint8 [n, C, H, W]


def draw_sheet(rows: Sequence[Row], scale: int = 8) -> Image.Image:
    """A row a photo: input, bicubic, samples, original where known; under captions.

    Args:
        rows: of equally many samples of one size.
        scale: each pixel of a sample becomes a square of this side.
    """
    height, width = (scale * side for side in rows[0].samples.shape[-2:])
    captions = _captions(rows)
    sheet = Image.new(
        "RGB",
        (
            2 * MARGIN + len(captions) * (width + GAP) - GAP,
            MARGIN + CAPTION + len(rows) * (height + NAME),
        ),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for k, caption in enumerate(captions):
        x = MARGIN + k * (width + GAP)
        draw.text((x + width // 2, MARGIN), caption, INK, font, anchor="ma")
    for r, row in enumerate(rows):
        y = MARGIN + CAPTION + r * (NAME + height)
        for k, tile in enumerate(_tiles(row)):
            large = tile.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(large, (MARGIN + k * (width + GAP), y))
        draw.text((MARGIN, y + height + 4), _printable(row.name), PALE, font)
    return sheet


def _captions(rows: Sequence[Row]) -> list[str]:
    height, width = rows[0].small.low_res.shape[-2:]
    captions = [f"{width}x{height} input", "bicubic"]
    captions += [f"sample {k + 1}" for k in range(len(rows[0].samples))]
    known = any(row.small.original is not None for row in rows)
    return [*captions, "original"] if known else captions


def _tiles(row: Row) -> list[Image.Image]:
    small = from_tensor(row.small.low_res)
    samples = [from_tensor(sample) for sample in row.samples]
    bicubic = small.resize(samples[0].size, Image.Resampling.BICUBIC)
    original = [] if row.small.original is None else [from_tensor(row.small.original)]
    return [small, bicubic, *samples, *original]


def _printable(name: str) -> str:
    """The name in the letters that Pillow's own font has for sure."""
    return "".join(c if " " <= c <= "~" else "?" for c in name)
