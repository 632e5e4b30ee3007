"""The lowering of feature maps to steps, with convolutions split by when their taps are known."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pixelsr.errors import PlanError

from .ir import ROW, Buffer, Placed, Pointwise, Product, Scan, Span, Step, Weight
from .symbolic import (
    BoolArray,
    Channel,
    Convolution,
    Deferred,
    Place,
    PointwiseValue,
    Sum,
    Value,
    groups_of_equal,
    runs,
)

# Taps are summed for the whole row, at the start of a pixel, or color by color.
WHENS = ("row", "left", "color")
_ROW, _LEFT, _COLOR = range(3)


class Emitter:
    """A collector of the buffers and steps of a plan."""

    def __init__(self) -> None:
        self.buffers: dict[str, Buffer] = {}
        self.steps: list[Placed] = []
        self.scans = 0
        self.everywhere: set[str] = set()
        """Buffers of maps that are constant along a row, and so as wide as their readers need."""

    def place(self, value: Deferred, name: str, padding: int | None = 0) -> Value:
        """Return `value` as a feature map in buffers; emit its steps, into `name`, if deferred."""
        if isinstance(value, Value):
            return value
        if isinstance(value, Sum):
            return _SumEmitter(self, value, name, padding).run()
        return self._place_pointwise(value, name, padding)

    def allocate(self, name: str, stages: Sequence[int], padding: int | None = 0) -> Value:
        """Allocate a buffer, with its channels sorted by stage."""
        order = tuple(int(i) for i in np.argsort(stages, kind="stable"))
        own = padding or 0
        self.buffers[name] = Buffer(name, order, right=own, padding=own)
        if padding is None:
            self.everywhere.add(name)
        place = {channel: index for index, channel in enumerate(order)}
        channels = (Channel(name, place[i], stages[i]) for i in range(len(stages)))
        return Value(tuple(channels), padding)

    def constant(self, name: str, constant: str, channels: tuple[int, ...]) -> Value:
        """Return a feature map that holds some elements of a constant at each pixel."""
        value = self.allocate(name, [ROW] * len(channels), None)
        out = Span(name, 0, len(channels))
        biases = ((constant, channels),)
        self.emit(Product(out, None, (), (), None, biases, overwrite=True), "row")
        return value

    def padding_of(self, placed: Placed) -> int:
        """Return the padding of a step, or of the readers of a map that is constant along a row."""
        name = placed.step.out.buffer
        return self.buffers[name].padding if name in self.everywhere else placed.padding

    def emit(self, step: Step, when: str, color: int = 0, padding: int | None = 0) -> None:
        """Append a step that also runs at `padding` columns to the right of the image."""
        padding = padding or 0
        for span in step.sources:
            self._reserve(span.buffer, (span.dr,), (span.dc,), padding)
            if span.buffer in self.everywhere:
                buffer = self.buffers[span.buffer]
                buffer.padding = max(buffer.padding, padding)
        if isinstance(step, Product) and step.src:
            self._reserve(step.src.buffer, step.rows, step.cols, padding)
        color = color if when == "color" else 0
        self.steps.append(Placed(step, when, color, padding=padding))

    def emit_at(self, step: Step, stage: int, padding: int | None) -> None:
        """Emit a step that runs when `stage` is reached."""
        self.emit(step, "row" if stage == ROW else "color", stage, padding)

    def emit_pointwise(self, out: Value, pointwise: PointwiseValue) -> None:
        for stage in sorted(set(out.stages.tolist())):
            channels = np.flatnonzero(out.stages == stage).tolist()
            for _, span, *args in _runs_of(channels, out, *pointwise.args):
                self.emit_at(Pointwise(span, tuple(args), pointwise.expression), stage, out.padding)

    def add(self, out: Value, channels: list[int], term: Value, stage: int) -> None:
        """Emit ``out += term`` for some channels, at `stage`."""
        expression = ("add", ("arg", 0), ("arg", 1))
        for _, own, other in _runs_of(channels, out, term):
            self.emit_at(Pointwise(own, (own, other), expression), stage, out.padding)

    @contextlib.contextmanager
    def marked(self, **marks: Any) -> Iterator[None]:
        """Set attributes of `Placed` on all steps that are emitted in this context."""
        start = len(self.steps)
        yield
        self.steps[start:] = [dataclasses.replace(placed, **marks) for placed in self.steps[start:]]

    @contextlib.contextmanager
    def scan(self, *, reverse: bool) -> Iterator[None]:
        """Combine all steps that are emitted in this context into one scan."""
        self.scans += 1
        with self.marked(scan=Scan(self.scans, reverse)):
            yield

    def _place_pointwise(self, pointwise: PointwiseValue, name: str, padding: int | None) -> Value:
        stages = np.max([arg.stages for arg in pointwise.args], axis=0).tolist()
        out = self.allocate(name, stages, padding)
        self.emit_pointwise(out, pointwise)
        return out

    def _reserve(
        self, name: str, rows: tuple[int, ...], cols: tuple[int, ...], padding: int
    ) -> None:
        buffer = self.buffers[name]
        buffer.rows = max(buffer.rows, 1 - min(rows))
        buffer.left = max(buffer.left, -min(cols))
        buffer.right = max(buffer.right, max(cols) + padding)


def _positions(value: Value, channels: list[int]) -> list[Place]:
    return [value.channels[i].place for i in channels]


class _SumEmitter:
    """The lowering of one sum, whose convolutions all accumulate in the sum's own buffer."""

    def __init__(self, emitter: Emitter, total: Sum, name: str, padding: int | None) -> None:
        self.emitter = emitter
        self.total = total
        self.taps = [_binding_times(convolution) for convolution in total.convolutions]
        stages = stages_of(total)
        self.out = emitter.allocate(name, stages, padding)
        self.stages = np.array(stages)
        self.written = np.zeros(len(stages), dtype=bool)

    def run(self) -> Value:
        pending = list(self.total.values)
        for when in (_ROW, _LEFT):
            for convolution, taps in zip(self.total.convolutions, self.taps, strict=True):
                self._products(convolution, taps == when, WHENS[when], 0, None)
        self._constants()
        for stage in sorted(set(self.stages.tolist())):
            self._at_stage(stage, pending)
        return self.out

    def _at_stage(self, stage: int, pending: list[Value]) -> None:
        """Emit the center taps of the channels of one stage, and the additions of feature maps."""
        channels = np.flatnonzero(self.stages == stage)
        center = [(taps == _COLOR) & _only(self.stages == stage) for taps in self.taps]
        with_products = np.logical_and.reduce(
            [live.any(axis=(1, 2, 3))[channels] for live in center] or [np.zeros(len(channels))]
        )
        attach = pending[0] if pending and with_products.all() else None
        for number, (convolution, live) in enumerate(
            zip(self.total.convolutions, center, strict=True)
        ):
            self._products(convolution, live, "color", stage, attach if number == 0 else None)
        for term in pending[1:] if attach else pending:
            self.emitter.add(self.out, channels.tolist(), term, stage)

    def _products(
        self, convolution: Convolution, live: BoolArray, when: str, stage: int, attach: Value | None
    ) -> None:
        """Cut live taps that run at the same time into rectangles, and emit their products."""
        for outs, pattern in groups_of_equal(live.reshape(len(live), -1)):
            add = attach
            for ins, taps in groups_of_equal(pattern.reshape(live.shape[1], -1)):
                for rows, cols in _rectangles(taps.reshape(live.shape[2:])):
                    for product in self._rectangle(convolution, outs, ins, rows, cols, add):
                        self.emitter.emit(product, when, stage, self.out.padding)
                    self.written[outs] = True
                    add = None

    def _rectangle(
        self,
        convolution: Convolution,
        outs: list[int],
        ins: list[int],
        rows: list[int],
        cols: list[int],
        attach: Value | None,
    ) -> Iterator[Product]:
        """Yield a product for each run of channels; the first one adds the bias and `attach`."""
        offsets = (
            tuple(convolution.rows[row] for row in rows),
            tuple(convolution.cols[col] for col in cols),
        )
        for written in (False, True):
            chosen = [o for o in outs if self.written[o] == written]
            for out_run, out, *add in _runs_of(chosen, self.out, *([attach] if attach else [])):
                overwrite = not written
                for in_run, src in _runs_of(ins, convolution.source):
                    weight = Weight(
                        convolution.weight,
                        tuple(o + convolution.first_out for o in out_run),
                        tuple(convolution.in_channels[i] for i in in_run),
                        tuple(rows),
                        tuple(cols),
                        convolution.is_sum,
                    )
                    biases = self._biases(out_run) if overwrite else ()
                    yield Product(
                        out, src, *offsets, weight, biases, overwrite, add[0] if add else None
                    )
                    overwrite, add = False, []

    def _biases(self, outs: tuple[int, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple(
            (name, tuple(channels[o] for o in outs)) for name, channels in self.total.biases
        )

    def _constants(self) -> None:
        """Emit the biases alone for channels without live taps."""
        center = np.zeros_like(self.written)
        for taps in self.taps:
            center |= (taps == _COLOR).any(axis=(1, 2, 3))
        constant = np.flatnonzero(~self.written & ~center).tolist()
        for run, out in _runs_of(constant, self.out):
            step = Product(out, None, (), (), None, self._biases(run), True)
            self.emitter.emit(step, "row", padding=self.out.padding)
        self.written[constant] = True


def stages_of(total: Sum) -> list[int]:
    """Return the stage of each channel: the latest of what it sums."""
    stages = np.full(total.width, total.earliest)
    for value in total.values:
        stages = np.maximum(stages, value.stages)
    for convolution in total.convolutions:
        taps = _binding_times(convolution)
        center = (taps == _COLOR).any(axis=(2, 3))  # [out, in]
        own = np.where(center, convolution.source.stages, ROW).max(1, initial=ROW)
        left = (taps == _LEFT).any(axis=(1, 2, 3))
        stages = np.maximum(stages, np.where(left, np.maximum(own, 0), own))
    return [int(stage) for stage in stages]


def _only(chosen: BoolArray) -> BoolArray:
    return chosen[:, None, None, None]


def _runs_of(channels: list[int], *values: Value) -> Iterator[Any]:
    """Yield runs of channels that are consecutive in each value: the channels, then the spans."""
    positions = values[0].channels
    ordered = sorted(channels, key=lambda i: positions[i].place)
    start = 0
    for spans in runs(*(_positions(value, ordered) for value in values)) if ordered else []:
        yield tuple(ordered[start : start + spans[0].count]), *spans
        start += spans[0].count


def _rectangles(taps: BoolArray) -> list[tuple[list[int], list[int]]]:
    """Cut the live taps of a kernel into rectangles, grouping rows with equal columns."""
    return [
        (rows, [int(col) for col in np.flatnonzero(pattern)])
        for rows, pattern in groups_of_equal(taps)
    ]


def _binding_times(convolution: Convolution) -> np.ndarray:
    """Return when each tap is known, ``[out, in, rows, cols]``: an index into WHENS, -1 if dead.

    Raises:
        PlanError: a live tap reads a later position.
    """
    rows = np.array(convolution.rows)[None, :, None]
    cols = np.array(convolution.cols)[None, None, :]
    by_pixel = (convolution.source.stages >= 0)[:, None, None]
    future = (rows > 0) | (by_pixel & (rows == 0) & (cols > 0))
    if (convolution.live & future).any():
        raise PlanError("a convolution reads the future")
    when = np.where(by_pixel & (rows == 0), np.where(cols < 0, _LEFT, _COLOR), _ROW)
    return np.where(convolution.live, np.broadcast_to(when, convolution.live.shape[1:]), -1)
