"""Plots and sheets of images, written as PNG files."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pixelsr.bench.plot import is_installed
from pixelsr.data.crop import from_tensor
from pixelsr.data.image_io import decode_image
from pixelsr.utils.atomic_write import write_whole
from pixelsr.utils.contact_sheet import Row, draw_sheet

COLORS = ("#1f5fbf", "#d95f02", "#1b7837", "#7b3294")
"""The colors of the lines of a plot, in order."""


def check_installed() -> None:
    """Check that matplotlib is installed, before hours of training.

    Raises:
        ValueError: it is not installed.
    """
    if not is_installed():
        raise ValueError(
            "the plots need matplotlib, which is not installed; pip install matplotlib"
        )


def canvas(width: float, height: float) -> Any:
    """Return an empty matplotlib figure; its size is in inches."""
    from matplotlib.figure import Figure  # takes half a second to import

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def tidy(axes: Any, x: str, y: str) -> None:
    """Name the axes, draw a pale grid, and remove the frame at the top and on the right."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def write_plot(path: Path, figure: Any) -> None:
    """Write a figure atomically, in 128 colors: enough for a plot."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    packed = io.BytesIO()
    image = decode_image(file.getvalue(), str(path)).quantize(128)
    image.save(packed, format="PNG", optimize=True)
    write_whole(path, packed.getvalue())


def write_sheet(
    path: Path, rows: Mapping[str, Tensor], captions: Sequence[str] = (), scale: int = 3
) -> None:
    """Write a sheet of images atomically: a row of images above each name.

    Args:
        rows: images by name, uint8 ``[K, C, H, W]`` with 8-bit intensities; all of one shape.
        captions: captions of the K columns; empty for none.
        scale: side of the square that each pixel becomes.
    """
    images = next(iter(rows.values()))
    size = images.shape[3], images.shape[2]
    lines = [Row(name, [from_tensor(tile) for tile in tiles]) for name, tiles in rows.items()]
    sheet = draw_sheet(captions or [""] * len(images), lines, size, scale)
    file = io.BytesIO()
    sheet.save(file, format="PNG", optimize=True)
    write_whole(path, file.getvalue())
