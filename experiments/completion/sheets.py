"""Completed images on sheets: what is kept, eight samples, the original."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pixelsr.data.quantize import from_levels, to_levels
from pixelsr.models import PixelModel

from ..support.config import ExperimentConfig
from ..support.faces import free_portraits
from ..support.plots import write_sheet
from .parts import HOLE, LOWER, complete, framed, spread_out, strip
from .report import DIGITS, FACES, MODEL, NAME

SAMPLES = 8
"""Of each image."""
SHOWN, SHOWN_HOLES = 8, 4
"""Images on a sheet, and digits on that of the holes."""
Rows = dict[str, Tensor]
"""Of a sheet, by title."""


@dataclasses.dataclass(frozen=True)
class Way:
    """A model, and the images that it completes: uint8 ``[N, C, H, W]``, of 8 bits."""

    model: PixelModel
    images: Tensor

    def some(self, count: int) -> Tensor:
        """So many of them, evenly spread, in the model's levels."""
        return to_levels(spread_out(self.images, count), self.model.levels)


def draw_sheets(task: ExperimentConfig, ways: Mapping[str, Way]) -> None:
    """Halves of digits and of the free portraits, holes in both; and, not to be shown, of faces."""
    digits = _titled("digit", ways[DIGITS].images, SHOWN)
    holes = dict(list(digits.items())[:SHOWN_HOLES])
    faces = _titled("face", ways[FACES].images, SHOWN)
    portraits = free_portraits(faces["face 1"].shape[-1])
    sheets = {
        f"{NAME}-digits": _rows(task, ways[DIGITS], digits, LOWER),
        f"{NAME}-portraits": _both(task, ways, portraits, LOWER),
        f"{NAME}-holes": _rows(task, ways[DIGITS], holes, HOLE)
        | _both(task, ways, portraits, HOLE),
        f"photos-{NAME}": _both(task, ways, faces, LOWER),
    }
    captions = ["kept", *map(str, range(1, SAMPLES + 1)), "original"]
    for file, rows in sheets.items():
        side = max(images.shape[3] for images in rows.values())
        lines = {title: framed(images, side) for title, images in rows.items()}
        write_sheet(task.out / f"{file}.png", lines, captions)


def _titled(title: str, images: Tensor, count: int) -> Rows:
    return {f"{title} {k}": image for k, image in enumerate(spread_out(images, count), 1)}


def _both(task: ExperimentConfig, ways: Mapping[str, Way], originals: Rows, part: str) -> Rows:
    """Each image completed by the prior of faces, and below by the other model."""
    by = {FACES: "the prior", MODEL: Path(task.model).name}
    of_ways = [
        _rows(task, ways[name], originals, part, f", {who}").items() for name, who in by.items()
    ]
    return dict(row for rows in zip(*of_ways, strict=True) for row in rows)


def _rows(task: ExperimentConfig, way: Way, originals: Rows, part: str, by: str = "") -> Rows:
    """Each image: the kept pixels, samples, the original; over its title."""
    levels = way.model.levels
    images = to_levels(torch.stack(list(originals.values())), levels)
    drawn = complete(way.model, images, part, SAMPLES, task.seed)
    shown: Sequence[Tensor] = [from_levels(some, levels) for some in (images, drawn)]
    return {
        f"{title}{by}": strip(image, samples, part)
        for title, image, samples in zip(originals, *shown, strict=True)
    }
