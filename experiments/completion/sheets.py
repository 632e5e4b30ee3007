"""Sheets of completed images: the kept pixels, eight samples and the original."""

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
from .parts import (
    DIGITS,
    FACES,
    HOLE,
    LOWER,
    MODEL,
    NAME,
    complete,
    framed,
    spread_out,
    strip,
)

SAMPLES = 8
"""The number of samples of each image."""
SHOWN, SHOWN_HOLES = 8, 4
"""The number of images on a sheet, and of digits on the sheet of holes."""
Rows = dict[str, Tensor]
"""The rows of a sheet by title."""


@dataclasses.dataclass(frozen=True)
class Way:
    """A model and the 8-bit images that it completes, uint8 ``[N, C, H, W]``."""

    model: PixelModel
    images: Tensor

    def some(self, count: int) -> Tensor:
        """Return a number of evenly spread images in the model's levels."""
        return to_levels(spread_out(self.images, count), self.model.levels)


def draw_sheets(config: ExperimentConfig, ways: Mapping[str, Way]) -> None:
    """Draw halves of digits and free portraits, holes in both, and halves of private photos."""
    digits = _titled("digit", ways[DIGITS].images, SHOWN)
    holes = dict(list(digits.items())[:SHOWN_HOLES])
    faces = _titled("face", ways[FACES].images, SHOWN)
    portraits = free_portraits(faces["face 1"].shape[-1])
    sheets = {
        f"{NAME}-digits": _rows(config, ways[DIGITS], digits, LOWER),
        f"{NAME}-portraits": _both(config, ways, portraits, LOWER),
        f"{NAME}-holes": _rows(config, ways[DIGITS], holes, HOLE)
        | _both(config, ways, portraits, HOLE),
        f"photos-{NAME}": _both(config, ways, faces, LOWER),
    }
    captions = ["kept", *map(str, range(1, SAMPLES + 1)), "original"]
    for file, rows in sheets.items():
        side = max(images.shape[3] for images in rows.values())
        lines = {title: framed(images, side) for title, images in rows.items()}
        write_sheet(config.out / f"{file}.png", lines, captions)


def _titled(title: str, images: Tensor, count: int) -> Rows:
    return {f"{title} {k}": image for k, image in enumerate(spread_out(images, count), 1)}


def _both(config: ExperimentConfig, ways: Mapping[str, Way], originals: Rows, part: str) -> Rows:
    """Return each image completed by the prior of faces, then by the other model."""
    by = {FACES: "the prior", MODEL: Path(config.model).name}
    of_ways = [
        _rows(config, ways[name], originals, part, f", {who}").items() for name, who in by.items()
    ]
    return dict(row for rows in zip(*of_ways, strict=True) for row in rows)


def _rows(config: ExperimentConfig, way: Way, originals: Rows, part: str, by: str = "") -> Rows:
    """Return the kept pixels, samples and original of each image, by title."""
    levels = way.model.levels
    images = to_levels(torch.stack(list(originals.values())), levels)
    drawn = complete(way.model, images, part, SAMPLES, config.seed)
    shown: Sequence[Tensor] = [from_levels(some, levels) for some in (images, drawn)]
    return {
        f"{title}{by}": strip(image, samples, part)
        for title, image, samples in zip(originals, *shown, strict=True)
    }
