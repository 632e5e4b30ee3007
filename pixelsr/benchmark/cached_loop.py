"""The cached loop of plain PyTorch on a GPU: the reference engine, by CUDA graphs of its steps.

A launch for each of its small steps takes longer than the steps. So one pixel is captured, and
the last pixel of a row with the first of the next one, which brings noise and the row stage: the
time of a picture is that of its rows and pixels. Products of float32 are allowed to be of TF32.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pixelsr.sampling.methods import start_engine
from pixelsr.sampling.sampler import Drawing

from .batch import Batch
from .clock import seconds
from .graphs import captured
from .sampler import request_of

ROWS = 2
"""Rows that are drawn before the capture: all views are made then, and all kernels chosen."""


class Position:
    """A batch on its way by the reference engine, value by value."""

    def __init__(self, batch: Batch) -> None:
        self.request = request_of(batch, "model")
        self.drawing = Drawing(0, 1.0)
        self.positions = start_engine("reference", self.request).positions()
        self.place, self.logits = next(self.positions)

    def draw(self, count: int) -> None:
        """So many values. The last one of a picture is never drawn."""
        for _ in range(count):
            values = self.drawing.values(self.request, self.place, self.logits)
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
        _, colours, height, width = batch.images.shape
        if height < ROWS + 1 or width < 4:
            raise RuntimeError(f"pictures of {width}x{height} are too small for it")
        at = Position(batch)
        at.draw(((ROWS - 1) * width + 1) * colours)
        pixel = captured(batch.device, lambda: at.draw(colours))
        at.draw((width - 3) * colours)
        self.noise = at.drawing._noise  # what the pixel reads; the next row has its own
        return pixel, captured(batch.device, lambda: at.draw(2 * colours))

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
        _, colours, height, width = batch.images.shape
        at = Position(batch)
        values = width * colours
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
