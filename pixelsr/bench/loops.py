"""The simple loops that draw the same images, timed by their steps."""

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pixelsr.sampling.methods import start_engine
from pixelsr.sampling.sampler import Sampler

from . import timing
from .engine_choices import request_of
from .inputs import Batch
from .passes import fast_pass
from .timing import captured, seconds

STEPS = 3
"""Passes that stand for all of the naive loop's; the median counts."""


def naive_pass(batch: Batch) -> Tensor:
    """What the naive loop computes for one value: all logits."""
    return batch.model(*batch.inputs)


def cropped_pass(batch: Batch, rows: int) -> Tensor:
    """What the row-cropped loop computes for one value: the prior's logits of the rows so far."""
    prior = getattr(batch.model, "prior", batch.model)
    return prior(batch.images[:, :, :rows])


@torch.inference_mode()
def naive_loop_seconds(batch: Batch) -> float:
    """The naive loop's time for the whole batch, extrapolated from `STEPS` of its passes."""
    forms = _forms(batch, None, partial(naive_pass, batch))
    steps = [_quickest(batch, forms) for _ in range(STEPS)]
    return statistics.median(steps) * batch.images[0].numel()


@torch.inference_mode()
def cropped_loop_seconds(batch: Batch) -> float:
    """The row-cropped loop's time for the whole batch, extrapolated from passes at five heights."""
    height, width = batch.image_size
    by_rows = {}
    for rows in rows_timed(height):
        forms = _forms(batch, rows, partial(cropped_pass, batch, rows))
        by_rows[rows] = min(_quickest(batch, forms) for _ in range(2))
    return interpolated(by_rows, height) * width * batch.model.colors


def _forms(
    batch: Batch, rows: int | None, plain: Callable[[], Tensor]
) -> list[Callable[[], Tensor]]:
    """The ways to run a pass here: as it stands, or on a GPU both fast ones."""
    if not timing.uses_graphs(batch.device):
        return [plain]
    return [fast_pass(batch, cropped=cropped, rows=rows) for cropped in (False, True)]


def _quickest(batch: Batch, forms: Sequence[Callable[[], Tensor]]) -> float:
    return min(seconds(batch.device, form) for form in forms)


def rows_timed(height: int) -> list[int]:
    """Heights of the passes that are timed: 1, each quarter, and all."""
    return sorted({1, *(max(1, height * quarter // 4) for quarter in (1, 2, 3, 4))})


def interpolated(by_rows: Mapping[int, float], height: int) -> float:
    """The sum of the times of a pass with 1, 2, .. `height` rows, from some of them."""
    rows = np.arange(1, height + 1)
    return float(np.interp(rows, list(by_rows), list(by_rows.values())).sum())


ROWS = 2
"""Rows that are drawn before the capture: all views are made then, and all kernels chosen."""


class Position:
    """A batch on its way by the reference engine, value by value."""

    def __init__(self, batch: Batch) -> None:
        self.request = request_of(batch, "model")
        self.sampler = Sampler(0, 1.0)
        self.positions = start_engine("reference", self.request).positions()
        self.place, self.logits = next(self.positions)

    def draw(self, count: int) -> None:
        """So many values. The last one of an image is never drawn."""
        for _ in range(count):
            values = self.sampler.values(self.request, self.place, self.logits)
            self.place, self.logits = self.positions.send(values)


class CachedLoop:
    """What is timed of the loop.

    Attributes:
        why_not_captured: None where the times are those of graphs; otherwise the reason why they
            are those of plain calls.
    """

    def __init__(self, batch: Batch) -> None:
        self.why_not_captured: str | None = None
        self.pixel: Callable[[], None] | None = None
        self.turn: Callable[[], None] | None = None
        self.noise: Tensor | None = None
        try:
            self.pixel, self.turn = self._capture(batch)
        except RuntimeError as error:
            self.why_not_captured = str(error).partition("\n")[0]

    def _capture(self, batch: Batch) -> tuple[Callable[[], None], Callable[[], None]]:
        """Graphs of a pixel, and of the last pixel of a row with the first of the next."""
        _, colors, height, width = batch.images.shape
        if height < ROWS + 1 or width < 4:
            raise RuntimeError(f"images of {width}x{height} are too small for it")
        at = Position(batch)
        at.draw(((ROWS - 1) * width + 1) * colors)
        pixel = captured(batch.device, lambda: at.draw(colors))
        at.draw((width - 3) * colors)
        self.noise = at.sampler._noise  # what the pixel reads; the next row has its own
        return pixel, captured(batch.device, lambda: at.draw(2 * colors))

    def seconds(self, batch: Batch) -> float:
        """For the whole batch, which is the one that it was made for, extrapolated."""
        device, (height, width) = batch.device, batch.image_size
        if self.pixel is None or self.turn is None:
            return self._plain_seconds(batch)
        pixel, turn = (
            min(seconds(device, part) for _ in range(2)) for part in (self.pixel, self.turn)
        )
        return height * ((width - 2) * pixel + turn)

    def _plain_seconds(self, batch: Batch) -> float:
        """From the second row, which begins where the first value of it is asked for."""
        _, colors, height, width = batch.images.shape
        at = Position(batch)
        values = width * colors
        if height < ROWS + 1:
            return seconds(batch.device, at.draw, height * values - 1)
        at.draw(values)
        return height * seconds(batch.device, at.draw, values)


def cached_loop(batch: Batch) -> CachedLoop:
    """The loop of a batch; captured once."""
    made: CachedLoop = batch.keep("cached loop", lambda: CachedLoop(batch))
    return made


def cached_loop_seconds(batch: Batch) -> float:
    """The cached loop's time for the whole batch, extrapolated from some of its steps."""
    with torch.no_grad(), tensor_cores():
        return cached_loop(batch).seconds(batch)


@contextlib.contextmanager
def tensor_cores() -> Iterator[None]:
    """Products of float32 matrices may be of TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
