"""Simple sampling loops for comparison, whose times are extrapolated from a few steps."""

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
from .choices import request_of
from .inputs import Batch
from .passes import fast_pass
from .timing import captured, seconds

STEPS = 3
"""The number of timed passes of the naive loop; the median is used for all passes."""


def naive_pass(batch: Batch) -> Tensor:
    """Compute all logits, as the naive loop does for every value."""
    return batch.model(*batch.inputs)


def cropped_pass(batch: Batch, rows: int) -> Tensor:
    """Compute the prior's logits of the first rows, as the row-cropped loop does per value."""
    prior = getattr(batch.model, "prior", batch.model)
    return prior(batch.images[:, :, :rows])


@torch.inference_mode()
def naive_loop_seconds(batch: Batch) -> float:
    """Return the naive loop's time for the whole batch, extrapolated from `STEPS` passes."""
    forms = _forms(batch, None, partial(naive_pass, batch))
    steps = [_quickest(batch, forms) for _ in range(STEPS)]
    return statistics.median(steps) * batch.images[0].numel()


@torch.inference_mode()
def cropped_loop_seconds(batch: Batch) -> float:
    """Return the row-cropped loop's time for the batch, extrapolated from at most five heights."""
    height, width = batch.image_size
    by_rows = {}
    for rows in rows_timed(height):
        forms = _forms(batch, rows, partial(cropped_pass, batch, rows))
        by_rows[rows] = min(_quickest(batch, forms) for _ in range(2))
    return interpolated(by_rows, height) * width * batch.model.colors


def _forms(
    batch: Batch, rows: int | None, plain: Callable[[], Tensor]
) -> list[Callable[[], Tensor]]:
    """Return the ways to run a pass: the plain one on a CPU, both fast ones on a GPU."""
    if not timing.uses_graphs(batch.device):
        return [plain]
    return [fast_pass(batch, cropped=cropped, rows=rows) for cropped in (False, True)]


def _quickest(batch: Batch, forms: Sequence[Callable[[], Tensor]]) -> float:
    return min(seconds(batch.device, form) for form in forms)


def rows_timed(height: int) -> list[int]:
    """Return the numbers of rows of the timed passes: 1, and each quarter of the height."""
    return sorted({1, *(max(1, height * quarter // 4) for quarter in (1, 2, 3, 4))})


def interpolated(by_rows: Mapping[int, float], height: int) -> float:
    """Return the sum of the times of passes with 1, 2, .. `height` rows, interpolated."""
    rows = np.arange(1, height + 1)
    return float(np.interp(rows, list(by_rows), list(by_rows.values())).sum())


ROWS = 2
"""The first row to capture, counted from 1: by then all views exist and kernels are selected."""


class Position:
    """A batch that the reference engine is drawing, value by value."""

    def __init__(self, batch: Batch) -> None:
        self.request = request_of(batch, "model")
        self.sampler = Sampler(0, 1.0)
        self.positions = start_engine("reference", self.request).positions()
        self.place, self.logits = next(self.positions)

    def draw(self, count: int) -> None:
        """Draw `count` values; the last value of an image cannot be drawn."""
        for _ in range(count):
            values = self.sampler.values(self.request, self.place, self.logits)
            self.place, self.logits = self.positions.send(values)


class CachedLoop:
    """The timed parts of the cached loop.

    Attributes:
        uncaptured_reason: None if CUDA graphs are timed; otherwise the reason why plain calls are
            timed instead.
    """

    def __init__(self, batch: Batch) -> None:
        self.uncaptured_reason: str | None = None
        self.pixel: Callable[[], None] | None = None
        self.turn: Callable[[], None] | None = None
        self.noise: Tensor | None = None
        try:
            self.pixel, self.turn = self._capture(batch)
        except RuntimeError as error:
            self.uncaptured_reason = str(error).partition("\n")[0]

    def _capture(self, batch: Batch) -> tuple[Callable[[], None], Callable[[], None]]:
        """Return graphs of one pixel, and of the last pixel of a row with the first of the next."""
        _, colors, height, width = batch.images.shape
        if height < ROWS + 1 or width < 4:
            raise RuntimeError(f"images of {width}x{height} are too small for a capture")
        at = Position(batch)
        at.draw(((ROWS - 1) * width + 1) * colors)
        pixel = captured(batch.device, lambda: at.draw(colors))
        at.draw((width - 3) * colors)
        self.noise = at.sampler._noise  # the pixel graph reads it; the next row has its own noise
        return pixel, captured(batch.device, lambda: at.draw(2 * colors))

    def seconds(self, batch: Batch) -> float:
        """Return the extrapolated time for a whole batch, which must be the constructor's."""
        device, (height, width) = batch.device, batch.image_size
        if self.pixel is None or self.turn is None:
            return self._plain_seconds(batch)
        pixel, turn = (
            min(seconds(device, part) for _ in range(2)) for part in (self.pixel, self.turn)
        )
        return height * ((width - 2) * pixel + turn)

    def _plain_seconds(self, batch: Batch) -> float:
        """Return the time of plain calls for the batch, extrapolated from the second row.

        An image of fewer than `ROWS` + 1 rows is drawn as a whole.
        """
        _, colors, height, width = batch.images.shape
        at = Position(batch)
        values = width * colors
        if height < ROWS + 1:
            return seconds(batch.device, at.draw, height * values - 1)
        at.draw(values)
        return height * seconds(batch.device, at.draw, values)


def cached_loop(batch: Batch) -> CachedLoop:
    """Return the cached loop of a batch, captured on the first call."""
    made: CachedLoop = batch.keep("cached loop", lambda: CachedLoop(batch))
    return made


def cached_loop_seconds(batch: Batch) -> float:
    """Return the cached loop's time for the whole batch, extrapolated from a few steps."""
    with torch.no_grad(), tensor_cores():
        return cached_loop(batch).seconds(batch)


@contextlib.contextmanager
def tensor_cores() -> Iterator[None]:
    """Allow TF32 in float32 matrix products within the context."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
