"""Splits convolutions by the stage at which their taps are known, and lays the steps down."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import fx

from ...errors import PlanError
from .steps import ROW, Buffer, Pointwise, Product, Step, Weight
from .values import (
    BoolArray,
    Channel,
    Convolution,
    Deferred,
    Formula,
    Sum,
    Value,
    groups_of_equal,
    runs,
)

# When taps are summed: for the whole row, when the pixel opens, or colour by colour.
WHENS = ("row", "left", "colour")
_ROW, _LEFT, _COLOUR = range(3)


class Emitter:
    """Collects the buffers and steps of a plan."""

    def __init__(self) -> None:
        self.buffers: dict[str, Buffer] = {}
        self.steps: list[tuple[Step, str, int]] = []  # step, when, colour

    def place(self, value: Deferred, node: fx.Node) -> Value:
        """Make a value stand in buffers, emitting what computes it."""
        if isinstance(value, Value):
            return value
        if isinstance(value, Sum):
            return _SumEmitter(self, value, node).run()
        return self._place_formula(value, node)

    def allocate(self, node: fx.Node, stages: list[int], causes: list[str]) -> Value:
        """A new buffer for the output of `node`, its channels sorted by stage."""
        order = tuple(int(i) for i in np.argsort(stages, kind="stable"))
        self.buffers[node.name] = Buffer(node.name, node, order)
        place = {channel: index for index, channel in enumerate(order)}
        return Value(
            tuple(Channel(node.name, place[i], stages[i], causes[i]) for i in range(len(stages)))
        )

    def emit(self, step: Step, when: str, colour: int = 0) -> None:
        self.steps.append((step, when, colour if when == "colour" else 0))

    def _place_formula(self, formula: Formula, node: fx.Node) -> Value:
        latest = [
            max(arguments, key=lambda channel: channel.stage)
            for arguments in zip(*(arg.channels for arg in formula.args), strict=True)
        ]
        out = self.allocate(node, [c.stage for c in latest], [c.cause for c in latest])
        for stage in sorted(set(out.stages.tolist())):
            channels = np.flatnonzero(out.stages == stage).tolist()
            for _, span, *args in _runs_of(channels, out, *formula.args):
                self.emit_at(Pointwise(span, tuple(args), formula.expression), stage)
        return out

    def emit_at(self, step: Step, stage: int) -> None:
        """Emit at the moment when a stage is reached."""
        self.emit(step, "row" if stage == ROW else "colour", stage)

    def add(self, out: Value, channels: list[int], term: Value, stage: int) -> None:
        """Emit ``out += term`` for some channels, at `stage`."""
        expression = ("add", ("arg", 0), ("arg", 1))
        for _, own, other in _runs_of(channels, out, term):
            self.emit_at(Pointwise(own, (own, other), expression), stage)


def _places(value: Value, channels: list[int]) -> list[tuple[str, int]]:
    return [(value.channels[i].buffer, value.channels[i].index) for i in channels]


class _SumEmitter:
    """Emits one sum: every convolution split by stage, all accumulated in the sum's own buffer."""

    def __init__(self, emitter: Emitter, total: Sum, node: fx.Node) -> None:
        self.emitter = emitter
        self.total = total
        self.taps = [_binding_times(convolution) for convolution in total.convolutions]
        stages, causes = self._stages()
        self.out = emitter.allocate(node, stages, causes)
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
        """The centre taps of the channels of one stage, and the feature maps that are added."""
        channels = np.flatnonzero(self.stages == stage)
        centre = [(taps == _COLOUR) & _only(self.stages == stage) for taps in self.taps]
        with_products = np.logical_and.reduce(
            [live.any(axis=(1, 2, 3))[channels] for live in centre] or [np.zeros(len(channels))]
        )
        attach = pending[0] if pending and with_products.all() else None
        for number, (convolution, live) in enumerate(
            zip(self.total.convolutions, centre, strict=True)
        ):
            self._products(convolution, live, "colour", stage, attach if number == 0 else None)
        for term in pending[1:] if attach else pending:
            self.emitter.add(self.out, channels.tolist(), term, stage)

    def _stages(self) -> tuple[list[int], list[str]]:
        """Each channel's stage: the latest of all that it reads; and the tap that made it so."""
        size = _width(self.total)
        stages, causes = [ROW] * size, [""] * size
        for value in self.total.values:
            for o, channel in enumerate(value.channels):
                if channel.stage > stages[o]:
                    stages[o], causes[o] = channel.stage, channel.cause
        for convolution, taps in zip(self.total.convolutions, self.taps, strict=True):
            centre = taps == _COLOUR  # [out, in, rows, cols]
            sources = convolution.source.stages
            for o in range(size):
                reads = centre[o].any(axis=(1, 2))
                latest = int(np.where(reads, sources, ROW).argmax())
                late = int(sources[latest]) if reads[latest] else ROW
                late = max(late, 0) if (taps[o] == _LEFT).any() else late
                if late > stages[o]:
                    stages[o] = late
                    causes[o] = f"layer {convolution.layer}, centre tap, input channel {latest}"
        return stages, causes

    def _products(
        self, convolution: Convolution, live: BoolArray, when: str, stage: int, attach: Value | None
    ) -> None:
        """Cut the live taps of one moment into rectangles, each a product or more."""
        for outs, pattern in groups_of_equal(live.reshape(len(live), -1)):
            add = attach
            for ins, taps in groups_of_equal(pattern.reshape(live.shape[1], -1)):
                for rows, cols in _rectangles(taps.reshape(live.shape[2:])):
                    for product in self._rectangle(convolution, outs, ins, rows, cols, add):
                        self.emitter.emit(product, when, stage)
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
        """A product for each run of channels; the first into a channel writes bias and `attach`."""
        offsets = (
            tuple(convolution.rows[row] for row in rows),
            tuple(convolution.cols[col] for col in cols),
        )
        for written in (False, True):
            chosen = [o for o in outs if self.written[o] == written]
            for out_run, out, *add in _runs_of(chosen, self.out, *([attach] if attach else [])):
                overwrite = not written
                for in_run, src in _runs_of(ins, convolution.source):
                    self._reserve(src.buffer, *offsets)
                    weight = Weight(convolution.layer, out_run, in_run, tuple(rows), tuple(cols))
                    biases = self._biases(out_run) if overwrite else ()
                    yield Product(
                        out, src, *offsets, weight, biases, overwrite, add[0] if add else None
                    )
                    overwrite, add = False, []

    def _biases(self, outs: tuple[int, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple((c.layer, outs) for c in self.total.convolutions if c.has_bias)

    def _reserve(self, name: str, rows: tuple[int, ...], cols: tuple[int, ...]) -> None:
        buffer = self.emitter.buffers[name]
        buffer.rows = max(buffer.rows, 1 - min(rows))
        buffer.left, buffer.right = max(buffer.left, -min(cols)), max(buffer.right, max(cols))

    def _constants(self) -> None:
        """Channels whose first product comes at no moment at all are their bias."""
        centre = np.zeros_like(self.written)
        for taps in self.taps:
            centre |= (taps == _COLOUR).any(axis=(1, 2, 3))
        constant = np.flatnonzero(~self.written & ~centre).tolist()
        for run, out in _runs_of(constant, self.out):
            self.emitter.emit(Product(out, None, (), (), None, self._biases(run), True), "row")
        self.written[constant] = True


def _width(total: Sum) -> int:
    sizes = {len(value.channels) for value in total.values}
    sizes |= {len(convolution.live) for convolution in total.convolutions}
    if len(sizes) > 1:
        raise PlanError(f"a sum of feature maps of {sorted(sizes)} channels")
    return sizes.pop()


def _only(chosen: BoolArray) -> BoolArray:
    return chosen[:, None, None, None]


def _runs_of(channels: list[int], *values: Value) -> Iterator[Any]:
    """Cut channels into runs that stand side by side in each value: the channels, and the spans."""
    places = values[0].channels
    ordered = sorted(channels, key=lambda i: (places[i].buffer, places[i].index))
    start = 0
    for spans in runs(*(_places(value, ordered) for value in values)) if ordered else []:
        yield tuple(ordered[start : start + spans[0].count]), *spans
        start += spans[0].count


def _rectangles(taps: BoolArray) -> list[tuple[list[int], list[int]]]:
    """Cut the live taps of a kernel into rectangles: rows with equal columns go together."""
    return [
        (rows, [int(col) for col in np.flatnonzero(pattern)])
        for rows, pattern in groups_of_equal(taps)
    ]


def _binding_times(convolution: Convolution) -> np.ndarray:
    """When each tap is known, as an index into WHENS; -1 at dead taps. ``[out, in, rows, cols]``.

    Raises:
        PlanError: a live tap reads what is drawn later; the message names layer, tap and channel.
    """
    rows = np.array(convolution.rows)[None, :, None]
    cols = np.array(convolution.cols)[None, None, :]
    by_pixel = (convolution.source.stages >= 0)[:, None, None]
    future = (rows > 0) | (by_pixel & (rows == 0) & (cols > 0))
    bad = np.argwhere(convolution.live & future)
    if len(bad):
        _, channel, r, c = bad[0]
        raise PlanError(
            f"layer {convolution.layer} reads the future: its tap at row {convolution.rows[r]:+d}, "
            f"column {convolution.cols[c]:+d}, input channel {channel}"
        )
    when = np.where(by_pixel & (rows == 0), np.where(cols < 0, _LEFT, _COLOUR), _ROW)
    return np.where(convolution.live, np.broadcast_to(when, convolution.live.shape[1:]), -1)
