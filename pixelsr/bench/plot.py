"""A plot of images per second against batch size; needs matplotlib."""

import importlib.util
import io
from collections.abc import Iterator
from typing import Any

from .report import CACHED, FORWARDS, LOOPS, Measurement, Report

COLORS = {"cuda": "#1b7837", "triton": "#7b3294", "cpu": "#1f5fbf", "reference": "#d95f02"}
STYLES = {None: "-", "model": "-", "float16": "--", "bfloat16": ":"}
MARKERS = {CACHED: "o", **dict.fromkeys(LOOPS, "s"), **dict.fromkeys(FORWARDS, "")}
SHADES = ("#111111", "#777777", "#444444", "#777777", "#b0b0b0")
GRAYS = dict(zip((*FORWARDS, *LOOPS), SHADES, strict=True))


def is_installed() -> bool:
    """Return True if matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_plot(report: Report) -> bytes:
    """Plot the report as PNG data: a line for each method and engine, both axes logarithmic."""
    from matplotlib.figure import Figure  # takes half a second to import

    figure = Figure(figsize=(9, 5.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for line in _lines(report):
        _draw(axes, line)
    _decorate(axes, report)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _lines(report: Report) -> Iterator[list[Measurement]]:
    """Yield a line per method, engine and weights, the fastest at the largest batch first."""
    last = report.of_batch(max(report.batches))
    for result in sorted(last, key=lambda result: -result.images_per_second):
        line = [other for other in report.results if other.name == result.name]
        yield sorted(line, key=lambda result: result.batch)


def _draw(axes: Any, line: list[Measurement]) -> None:
    first = line[0]
    forward = first.method in FORWARDS
    axes.plot(
        [result.batch for result in line],
        [result.images_per_second for result in line],
        label=_label(first),
        color=GRAYS.get(first.method) or COLORS.get(first.engine or "", "#333333"),
        linestyle="-." if forward else STYLES[first.weights],
        linewidth=1.2 if forward else 2,
        marker=MARKERS[first.method],
        markersize=5,
    )


def _label(result: Measurement) -> str:
    if result.method in FORWARDS:
        return f"one {result.name.replace('forward,', 'forward pass,')}"
    return result.name + (" (from its steps)" if result.method in LOOPS else "")


def _decorate(axes: Any, report: Report) -> None:
    height, width = report.image_size
    machine = report.machine
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(report.batches, [str(batch) for batch in report.batches], minor=False)
    axes.set_xlabel("images at once")
    axes.set_ylabel("images a second")
    axes.set_title(
        f"{report.model['class']}, images of {width}x{height}\n"
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}",
        fontsize=10,
        loc="left",
    )
    axes.grid(which="major", color="#dddddd", linewidth=0.8)
    axes.grid(which="minor", color="#eeeeee", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9, handlelength=3
    )
