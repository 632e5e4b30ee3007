"""The reference engine: a plan executed with PyTorch, on any device, as the oracle in tests."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..binding import bind
from ..plan import Buffer, Plan, Pointwise, Product, Span, Step
from ..plan.ir import Placed
from ..plan.pointwise import compile_expression
from ..request import Request
from .base import PlanEngine, Positions
from .buffers import Features, Ring, feature_dtype, ring_shape
from .packing import bias_of, block_of

Run = Callable[[int, int, int], None]
"""A function (row, first column, pixels) that executes a step at `pixels` positions of a row."""


@dataclass(frozen=True)
class _Bound:
    run: Run
    placed: Placed


class ReferenceEngine(PlanEngine):
    """The engine that runs each step as a PyTorch function on ring buffers."""

    name = "reference"

    def __init__(self, plan: Plan, request: Request) -> None:
        super().__init__(plan, request)
        self.dtype, self.binding = feature_dtype(request), bind(plan, request)
        width = plan.image_size[1]

        def ring(buffer: Buffer) -> Ring:
            shape = ring_shape(buffer, width, request.samples)
            return Ring(buffer, width, torch.zeros(shape, dtype=self.dtype, device=self.device))

        self.rings = {name: ring(buffer) for name, buffer in plan.buffers.items()}
        self.features = Features(plan, request, self.rings)
        bound = [_Bound(self._bind(placed.step), placed) for placed in plan.placed]
        self.moments = plan.moments(bound, lambda step: step.placed)

    @staticmethod
    def device_unsupported_reason(device: torch.device) -> str | None:
        return None

    def positions(self) -> Positions:
        schedule, moments = self.schedule, self.moments
        for row in range(self.features.prefill(schedule), schedule.last_row + 1):
            self.features.load_values(row)
            if not schedule.row_has_unknown(row):
                self.features.load_known(row, self.images)
                _run_row(moments.known_row, row, schedule.cols)
                continue
            _run_row(moments.row, row, schedule.cols)
            for col in schedule.cols:
                last, stop = schedule.last_unknown(row, col), schedule.stop(row, col)
                _run_pixel(moments.left[last >= 0], row, col)
                for color in range(stop):
                    _run_pixel(moments.colors[color][color <= last], row, col)
                    if color == self.plan.colors:
                        continue
                    if schedule.is_unknown(row, col, color):
                        drawn = yield (row, col, color), self._logits(row, col, color)
                        self.write((row, col, color), drawn)
                    self._load_value(row, col, color)
                if schedule.is_last(row, col):
                    break
            else:
                for col, steps in enumerate(moments.padding, self.plan.image_size[1]):
                    _run_pixel(steps, row, col)

    def _logits(self, row: int, col: int, color: int) -> Tensor:
        span = self.plan.logits[color]
        return self.rings[span.buffer].span(row, col, 1, span.first, span.count)

    def _load_value(self, row: int, col: int, color: int) -> None:
        """Store a value, known or drawn, where the next stages read it."""
        value = self.images[:, color, row, col]
        self.rings[self.plan.image].span(row, col, 1, color, 1).copy_(value.unsqueeze(1))

    # Steps as functions.

    def _bind(self, step: Step) -> Run:
        if isinstance(step, Pointwise):
            return self._bind_pointwise(step)
        return self._bind_product(step)

    def _bind_pointwise(self, step: Pointwise) -> Run:
        out = self._view(step.out)
        args = [self._view(arg) for arg in step.args]
        pointwise = compile_expression(step.expression)

        def run(row: int, col: int, pixels: int) -> None:
            out(row, col, pixels).copy_(pointwise([arg(row, col, pixels) for arg in args]))

        return run

    def _bind_product(self, step: Product) -> Run:
        out = self._view(step.out)
        bias = bias_of(self.binding, step, self.dtype)
        add = self._view(step.add) if step.add else None
        windows = self._windows(step)

        def run(row: int, col: int, pixels: int) -> None:
            target = out(row, col, pixels)
            if step.overwrite:
                target.copy_(bias.expand_as(target))
            if add:
                target += add(row, col, pixels)
            for window, weight in windows:
                source = window(row, col, pixels)
                if pixels == 1:
                    target.addmm_(source, weight)
                else:
                    target += (source @ weight).view(target.shape)

        return run

    def _view(self, span: Span) -> Callable[[int, int, int], Tensor]:
        ring, first, count = self.rings[span.buffer], span.first, span.count
        dr, dc = span.dr, span.dc
        return lambda row, col, pixels: ring.span(row + dr, col + dc, pixels, first, count)

    def _windows(self, step: Product) -> list[tuple[Callable[[int, int, int], Tensor], Tensor]]:
        """Return (window, weight) for each row of taps and each run of adjacent columns."""
        if step.src is None or step.weight is None:
            return []
        weight = block_of(self.binding, step.weight).to(self.dtype)
        ring, first, count = self.rings[step.src.buffer], step.src.first, step.src.count
        windows = []
        for dr, taps in zip(step.rows, weight.unbind(2), strict=True):
            for start, stop in _consecutive(step.cols):
                packed = taps[:, :, start:stop].permute(2, 1, 0).flatten(0, 1)
                window = _window(ring, dr, step.cols[start], stop - start, first, count)
                windows.append((window, packed.contiguous()))
        return windows


def _window(
    ring: Ring, dr: int, dc: int, taps: int, first: int, count: int
) -> Callable[[int, int, int], Tensor]:
    return lambda row, col, pixels: ring.window(row + dr, col + dc, pixels, taps, first, count)


def _consecutive(cols: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of adjacent columns; dilated taps are runs of length 1."""
    starts = [i for i, col in enumerate(cols) if i == 0 or col != cols[i - 1] + 1]
    return list(itertools.pairwise([*starts, len(cols)]))


def _run_pixel(steps: Sequence[_Bound], row: int, col: int) -> None:
    for bound in steps:
        bound.run(row, col, 1)


def _run_row(steps: Sequence[_Bound], row: int, cols: range) -> None:
    """Run each step for the whole row at once, and a scan pixel by pixel."""
    due = [bound for bound in steps if row >= bound.placed.first_row]
    for scan, group in itertools.groupby(due, lambda bound: bound.placed.scan):
        if scan is None:
            for bound in group:
                bound.run(row, cols.start, len(cols) + bound.placed.padding)
            continue
        own = list(group)
        positions = range(cols.start, cols.stop + own[0].placed.padding)
        for col in reversed(positions) if scan.reverse else positions:
            _run_pixel(own, row, col)
