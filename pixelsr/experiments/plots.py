"""Plots as PNG files; needs matplotlib."""

import importlib.util
import io
from pathlib import Path
from typing import Any

from ..data.pictures import decode_picture
from ..files import write_whole

COLOURS = ("#1f5fbf", "#d95f02", "#1b7837", "#7b3294")
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
    """Write a figure, whole or not at all; in 128 colours, which a plot does not show."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    packed = io.BytesIO()
    picture = decode_picture(file.getvalue(), str(path)).quantize(128)
    picture.save(packed, format="PNG", optimize=True)
    write_whole(path, packed.getvalue())
