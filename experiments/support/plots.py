"""Plots, and grids of images, as PNG files."""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pixelsr.data.crop import from_tensor
from pixelsr.data.image_io import decode_image
from pixelsr.utils.atomic_write import write_whole
from pixelsr.utils.contact_sheet import Row, draw_sheet

COLORS = ("#1f5fbf", "#d95f02", "#1b7837", "#7b3294")
"""Of the lines of a plot, in their order."""


def check_installed() -> None:
    """Find out now, not after hours of training.

    Raises:
        ValueError: there is no matplotlib.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "the plots need matplotlib, which is not installed; pip install matplotlib"
        )


def canvas(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches."""
    from matplotlib.figure import Figure  # takes half a second to import

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def tidy(axes: Any, x: str, y: str) -> None:
    """Name the axes; a pale grid, no frame above and on the right."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def write_plot(path: Path, figure: Any) -> None:
    """Write a figure, whole or not at all; in 128 colors, which a plot does not show."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    packed = io.BytesIO()
    image = decode_image(file.getvalue(), str(path)).quantize(128)
    image.save(packed, format="PNG", optimize=True)
    write_whole(path, packed.getvalue())


def write_sheet(
    path: Path, rows: Mapping[str, Tensor], captions: Sequence[str] = (), scale: int = 3
) -> None:
    """Write a file, whole or not at all: a row of images over each name.

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
