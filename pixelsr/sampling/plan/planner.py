"""Makes the plan of a recorded network: lowers its feature maps to steps on buffers."""

import contextlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .folding import fold
from .graph import Given, Graph, Image, Linear, Map, Operand, PerChannel, Recurrence
from .graph import Pointwise as PointwiseMap
from .ir import ROW, Buffer, Captured, Placed, Plan, Product, Span, Step
from .lowering import Emitter
from .operations import build
from .pointwise import MAX_ARGS, MAX_STACK, depth
from .recurrence import StateToState, emit_diagonal_bilstm, emit_row_lstm
from .symbolic import (
    BoolArray,
    Channel,
    Convolution,
    Deferred,
    PointwiseValue,
    Sum,
    Value,
    runs,
    shifted,
)
from .tape import Pass
from .timing import Offset, Timing


def make_plan(passed: Pass, colors: int, levels: int, image_size: tuple[int, int]) -> Plan:
    """Return the plan of a recorded pass of one image.

    Raises:
        NotCausal: the logits depend on a value that is drawn later; the message says through what.
        UnsupportedOperation: an operation cannot be planned; the message names it.
        PlanError: the feature maps cannot be computed pixel by pixel.
    """
    graph = fold(build(passed, colors, levels, image_size))
    return _Planner(graph, passed, colors, levels).run()


@dataclass(frozen=True)
class _Reader:
    """The reader of an operand: its frame, and the positions at which it is computed.

    `rows` and `cols` are the first and last position, relative to the operand.
    """

    frame: Offset
    rows: Offset
    cols: Offset


class _Planner:
    """Lowers maps in order; a map that one operation reads whole may become part of it."""

    def __init__(self, graph: Graph, passed: Pass, colors: int, levels: int) -> None:
        self.graph, self.passed, self.colors, self.levels = graph, passed, colors, levels
        self.timing = Timing(graph, colors, levels)
        self.height, self.width = graph.image_size
        self.emitter = Emitter()
        self.results: dict[int, Deferred] = {}
        self.conditioning: dict[str, Given] = {}
        self.copies: dict[str, Value] = {}
        self.maps = [made for made in graph.maps if self.timing.needed[made.number]]
        self.readers = self._readers()
        self.padding = self._paddings()

    def run(self) -> Plan:
        for made in self.maps:
            value = self._lowered(made)
            self.results[made.number] = value
            if not self._is_deferrable(made):
                self._placed(made.number)
        return self._finish()

    # How a map is read.

    def _readers(self) -> Counter[int]:
        """Return how many operands read each map."""
        assert self.graph.logits is not None
        readers = Counter(np.unique(self.graph.logits.map).tolist())
        for made in self.maps:
            for operand in made.operands:
                readers.update(np.unique(operand.reads.map).tolist())
        return readers

    def _is_deferrable(self, made: Map) -> bool:
        return self.readers[made.number] == 1

    def _is_fused(self, operand: Operand, frame: Offset) -> int | None:
        """Return the map that an operand reads whole in the same frame, or None."""
        number = int(operand.reads.map[0])
        made = self.graph.maps[number]
        if not operand.reads.is_whole(number, made.channels) or self.readers[number] > 1:
            return None
        same = self.timing.frames[number] == frame and made.size == operand.size
        return number if same else None

    def _paddings(self) -> dict[int, int]:
        """Return the number of columns to the right of the image in which each map is needed."""
        found = {}
        for made in self.maps:
            _, (_, right) = self.timing.regions.get(made.number, ((0, 0), (0, 0)))
            found[made.number] = max(0, right + self.timing.frames[made.number][1] - self.width + 1)
        return found

    # Lowering.

    def _lowered(self, made: Map) -> Deferred:
        op, frame = made.op, self.timing.frames[made.number]
        if isinstance(op, Image):
            name = self._name(made)
            self.emitter.buffers[name] = Buffer(name, tuple(range(self.colors)))
            return Value(tuple(Channel(name, c, c + 1) for c in range(self.colors)))
        if isinstance(op, Given):
            self.conditioning[self._name(made)] = replace(op, shift=frame)
            padding = self.padding[made.number]
            return self.emitter.allocate(self._name(made), [ROW] * made.channels, padding)
        if isinstance(op, PerChannel):
            return self.emitter.constant(self._name(made), op.constant, op.index)
        if isinstance(op, Linear):
            return self._linear(made, op)
        if isinstance(op, PointwiseMap):
            return self._pointwise(made, op, frame)
        return self._recurrence(made, op)

    def _name(self, made: Map) -> str:
        if made.entry < 0:
            return "image"
        return f"{self.graph.entries[made.entry].name} {made.number}"

    def _placed(self, number: int) -> Value:
        """Return a map in its buffer; emit its steps if that has not been done."""
        name, first_row = self._name(self.graph.maps[number]), self._first_row(number)
        with self.emitter.marked(first_row=first_row) if first_row else contextlib.nullcontext():
            value = self.emitter.place(self.results[number], name, self.padding[number])
        self.results[number] = value
        return value

    def _first_row(self, number: int) -> int:
        """Return the first row in which a map is computed: those above would be outside of it."""
        row = self.timing.frames[number][0]
        return row if row > 0 and self.timing.is_above(number) else 0

    def _reader(self, made: Map) -> _Reader:
        frame = self.timing.frames[made.number]
        if isinstance(made.op, Recurrence):
            return _Reader(frame, (0, made.size[0] - 1), (0, made.size[1] - 1))
        right = self.width - 1 + self.padding[made.number]
        rows = self._first_row(made.number) - frame[0], self.height - 1 - frame[0]
        return _Reader(frame, rows, (-frame[1], right - frame[1]))

    def _value(self, operand: Operand, reader: _Reader, taps: list[Offset]) -> Value:
        """Return what the channels of an operand read, for a map that reads it at `taps`."""
        frame, reads = reader.frame, operand.reads
        channels: list[Channel | None] = [None] * len(reads)
        for number, dr, dc in reads.distinct():
            own = (reads.map == number) & (reads.dr == dr) & (reads.dc == dc)
            value = self._placed(number)
            moved = self.timing.frames[number]
            row, col = dr - frame[0] + moved[0], dc - frame[1] + moved[1]
            if not self._has_zeros_beyond(operand, (number, dr, dc), reader, taps):
                value = self._surrounded_by_zeros(operand, (number, dr, dc), value)
            stage_limit = ROW if row < 0 else 0 if row == 0 and col < 0 else None
            for k in np.flatnonzero(own).tolist():
                channel = value.channels[int(reads.channel[k])]
                if taps == [(0, 0)] and _is_future(row, col, channel.stage):
                    channels[k] = self._zero()
                    continue
                stage = channel.stage if stage_limit is None else min(channel.stage, stage_limit)
                channels[k] = replace(channel, stage=stage, dr=row, dc=col)
        return Value(tuple(channels))  # type: ignore[arg-type]

    def _has_zeros_beyond(
        self, operand: Operand, read: tuple[int, int, int], reader: _Reader, taps: list[Offset]
    ) -> bool:
        """Return True if a buffer holds zeros wherever a reader expects them.

        A reader expects zeros outside the operand, and outside the domain of the map. A buffer has
        zeros where its steps do not run.
        """
        number, dr, dc = read
        source = self.graph.maps[number]
        if isinstance(source.op, PerChannel) and taps == [(0, 0)]:
            return True
        buffer = self._buffer_of(number)
        if buffer is not None and buffer.initial and taps != [(0, 0)]:
            return False
        rows, cols = self._valid(operand, read)
        computed_rows, computed_cols = self._computed(number)
        for tap_row, tap_col in taps:
            read_rows = reader.rows[0] + tap_row + dr, reader.rows[1] + tap_row + dr
            read_cols = reader.cols[0] + tap_col + dc, reader.cols[1] + tap_col + dc
            seen_rows = _overlap(read_rows, computed_rows)
            seen_cols = _overlap(read_cols, computed_cols)
            if seen_rows is None or seen_cols is None:
                continue
            if not (_contains(rows, seen_rows) and _contains(cols, seen_cols)):
                return False
        return True

    def _valid(self, operand: Operand, read: tuple[int, int, int]) -> tuple[Offset, Offset]:
        """Return the rows and columns of a map that an operand shows, by the map's positions."""
        number, dr, dc = read
        height, width = self.graph.maps[number].size
        return (
            (max(dr, 0), min(operand.size[0] - 1 + dr, height - 1)),
            (max(dc, 0), min(operand.size[1] - 1 + dc, width - 1)),
        )

    def _computed(self, number: int) -> tuple[Offset, Offset]:
        """Return the rows and columns in which a map is computed, by the map's positions."""
        row, col = self.timing.frames[number]
        right = self.width - 1 + self.padding[number]
        return (self._first_row(number) - row, self.height - 1 - row), (-col, right - col)

    def _buffer_of(self, number: int) -> Buffer | None:
        value = self.results.get(number)
        if not isinstance(value, Value) or not value.channels:
            return None
        return self.emitter.buffers[value.channels[0].buffer]

    def _surrounded_by_zeros(
        self, operand: Operand, read: tuple[int, int, int], value: Value
    ) -> Value:
        """Return a copy of a map that is zero outside an operand and outside the map's domain."""
        row, col = self.timing.frames[read[0]]
        (top, bottom), (left, right) = self._valid(operand, read)
        rows, cols = (top + row, bottom + row), (left + col, right + col)
        padding = max(0, cols[1] - self.width + 1)
        name = f"{value.channels[0].buffer} within {rows}, {cols}"
        if name in self.copies:
            return self.copies[name]
        copy = PointwiseValue(("arg", 0), (value,))
        if rows[0] > 0 or cols[0] > 0 or rows[1] < self.height - 1 or cols[1] < self.width - 1:
            mask = self._mask(rows, cols, padding)
            mask = Value(mask.channels * len(value.channels), padding)
            copy = PointwiseValue(("where", ("arg", 1), ("arg", 0), ("const", 0.0)), (value, mask))
        self.copies[name] = self.emitter.place(copy, name, padding)
        return self.copies[name]

    def _mask(self, rows: Offset, cols: Offset, padding: int) -> Value:
        """Return a map that is 1 within some rows and columns, and 0 outside."""
        values = np.zeros((1, self.height, self.width + padding))
        values[:, max(rows[0], 0) : rows[1] + 1, max(cols[0], 0) : cols[1] + 1] = 1
        name = f"mask of {rows}, {cols}"
        self.conditioning[name] = _fixed(values)
        return self.emitter.allocate(name, [ROW], padding)

    def _zero(self) -> Channel:
        """Return a channel of zeros, for a read that `Timing` found to be outside of its map."""
        if "zero" not in self.conditioning:
            values = np.zeros((1, self.height, self.width))
            self.conditioning["zero"] = Given(
                "fixed", 0, np.zeros((0, 0, 0), dtype=np.int64), values
            )
            self.copies["zero"] = self.emitter.allocate("zero", [ROW])
        return self.copies["zero"].channels[0]

    # Sums.

    def _linear(self, made: Map, op: Linear) -> Sum:
        convolutions: list[Convolution] = []
        for term in op.terms:
            taps = [
                (dr, dc)
                for r, dr in enumerate(term.rows)
                for c, dc in enumerate(term.cols)
                if term.live[:, :, r, c].any()
            ]
            if not taps:
                continue
            value = self._value(term.read, self._reader(made), taps)
            offsets = [(channel.dr, channel.dc) for channel in value.channels]
            for row, col in dict.fromkeys(offsets):
                own = [i for i, offset in enumerate(offsets) if offset == (row, col)]
                source = self._unshifted(term.read, value, own)
                inputs = tuple(term.used[own].tolist())
                rows = tuple(dr + row for dr in term.rows)
                cols = tuple(dc + col for dc in term.cols)
                live = term.live[:, inputs] & ~_future(rows, cols, source.stages)
                convolutions.append(
                    Convolution(term.weight, source, live, rows, cols, inputs, is_sum=term.is_sum)
                )
        if not convolutions:
            live = np.zeros((made.channels, 0, 1, 1), dtype=bool)
            convolutions.append(Convolution("", Value(()), live, (0,), (0,), ()))
        return Sum(tuple(convolutions), (), op.biases)

    def _unshifted(self, operand: Operand, value: Value, own: list[int]) -> Value:
        """Return some channels of a value at their own pixels."""
        channels = []
        for i in own:
            number, channel = int(operand.reads.map[i]), value.channels[i]
            placed = self._placed(number).channels[int(operand.reads.channel[i])]
            channels.append(replace(channel, stage=placed.stage, dr=0, dc=0))
        return Value(tuple(channels))

    def _term(self, operand: Operand, made: Map) -> Sum | Value:
        """Return an operand of a sum, which accumulates convolutions that only it reads."""
        number = self._is_fused(operand, self.timing.frames[made.number])
        if number is not None and isinstance(self.results[number], Sum):
            return self.results[number]  # type: ignore[return-value]
        return self._value(operand, self._reader(made), [(0, 0)])

    # Pointwise functions.

    def _pointwise(self, made: Map, op: PointwiseMap, frame: Offset) -> Deferred:
        if op.expression == ("add", ("arg", 0), ("arg", 1)):
            terms = [self._is_fused(arg, frame) for arg in op.args]
            if any(
                number is not None and isinstance(self.results[number], Sum) for number in terms
            ):
                return _accumulated(*(self._term(arg, made) for arg in op.args))
        args: list[Value] = []
        parts: list[Any] = [("arg", 0)] * len(op.args)
        for place, operand in enumerate(op.args):
            number = self._is_fused(operand, frame)
            value = None if number is None else self.results[number]
            if isinstance(value, PointwiseValue):
                merged = parts.copy()
                merged[place] = shifted(value.expression, len(args))
                count = len(args) + len(value.args) + len(op.args)
                if depth(_substituted(op.expression, merged)) <= MAX_STACK and count <= MAX_ARGS:
                    parts = merged
                    args += value.args
                    continue
            parts[place] = ("arg", len(args))
            args.append(self._value(operand, self._reader(made), [(0, 0)]))
        return PointwiseValue(_substituted(op.expression, parts), tuple(args))

    # Recurrences.

    def _recurrence(self, made: Map, op: Recurrence) -> Deferred:
        term = self._term(op.gates, made)
        gates = term if isinstance(term, Sum) else Sum((), (term,))
        states = [StateToState(*names, op.taps) for names in op.states]
        name, padding = self._name(made), self.padding[made.number]
        if op.kind == "row_lstm":
            return emit_row_lstm(self.emitter, name, gates, states[0], self.width, padding)
        maps = emit_diagonal_bilstm(
            self.emitter, name, gates, states[0], states[1], self.width, padding
        )
        return PointwiseValue(("add", ("arg", 0), ("arg", 1)), maps)

    # The end.

    def _finish(self) -> Plan:
        assert self.graph.logits is not None
        size = self.graph.image_size
        reader = _Reader((0, 0), (0, size[0] - 1), (0, size[1] - 1))
        logits = self._value(Operand(self.graph.logits, size), reader, [(0, 0)])
        spans = self._logit_spans(logits)
        placed = self._placed_steps()
        padding = max((placed.padding for placed in placed), default=0)
        return Plan(
            size,
            self.colors,
            self.levels,
            "image",
            spans,
            self.emitter.buffers,
            placed,
            padding,
            self.passed.tape,
            self.graph,
            self.conditioning,
            self._prefill(padding),
        )

    def _logit_spans(self, logits: Value) -> tuple[Span, ...]:
        """Return the span of each color's logits, from a copy unless they stand side by side."""

        def of_colors(value: Value) -> list[list[Span]]:
            each = (
                value.channels[color * self.levels : (color + 1) * self.levels]
                for color in range(self.colors)
            )
            return [[run[0] for run in runs([c.place for c in channels])] for channels in each]

        spans = of_colors(logits)
        if (
            len({channel.buffer for channel in logits.channels}) > 1
            or any(len(own) > 1 for own in spans)
            or any(span.dr or span.dc for own in spans for span in own)
        ):
            latest = np.array([channel.stage for channel in logits.channels])
            latest = latest.reshape(self.colors, -1).max(1).repeat(self.levels).tolist()
            # Channels are sorted by stage, so those of a color need the same one to stay together.
            pairs = zip(logits.channels, latest, strict=True)
            together = Value(tuple(replace(channel, stage=stage) for channel, stage in pairs))
            copied = self.emitter.place(PointwiseValue(("arg", 0), (together,)), "logits", 0)
            spans = of_colors(copied)
        return tuple(own for (own,) in spans)

    def _placed_steps(self) -> tuple[Placed, ...]:
        """Return every step with its moment; no other pixel reads from a logits-only step."""
        carried = {name for placed in self.emitter.steps for name in _read_elsewhere(placed.step)}
        for placed in reversed(self.emitter.steps):
            if placed.step.out.buffer in carried:
                carried |= {span.buffer for span in placed.step.sources}
        return tuple(
            replace(placed, padding=self.emitter.padding_of(placed))
            if placed.step.out.buffer in carried
            else replace(placed, logits_only=True, padding=0)
            for placed in self.emitter.steps
        )

    def _prefill(self, padding: int) -> dict[str, Captured] | None:
        """Return where to find the features that rows below read; None if a pass has not all."""
        if padding or any(buffer.initial for buffer in self.emitter.buffers.values()):
            return None
        by_name = {self._name(made): made for made in self.maps}
        found: dict[str, Captured] = {}
        for name, buffer in self.emitter.buffers.items():
            if buffer.rows == 1 or name == "image" or name in self.conditioning:
                continue
            made = by_name.get(name)
            if made is None or made.captured is None:
                return None
            frame = self.timing.frames[made.number]
            if frame[1]:
                return None
            found[name] = Captured(made.entry, *made.captured, frame[0])
        return found


def _fixed(values: NDArray[np.float64]) -> Given:
    """Return a map of fixed values ``[channels, H, W]``."""
    return Given("fixed", 0, np.zeros((0, 0, 0), dtype=np.int64), values)


def _is_future(row: int, col: int, stage: int) -> bool:
    """Return True for a read of a later position.

    `Timing` has checked that such a read only finds zeros outside of the map.
    """
    return row > 0 or (row == 0 and col > 0 and stage != ROW)


def _future(rows: tuple[int, ...], cols: tuple[int, ...], stages: Any) -> BoolArray:
    """Return the taps that read later positions, ``[in, rows, columns]``; see `_is_future`."""
    row, col = np.array(rows)[None, :, None], np.array(cols)[None, None, :]
    by_pixel = (stages != ROW)[:, None, None]
    return (row > 0) | ((row == 0) & (col > 0) & by_pixel)


def _substituted(expression: Any, parts: list[Any]) -> Any:
    """Return an expression with its arguments replaced by other expressions."""
    name, *operands = expression
    if name == "arg":
        return parts[operands[0]]
    if name == "const":
        return expression
    return (name, *(_substituted(operand, parts) for operand in operands))


def _accumulated(*terms: Sum | Value) -> Sum:
    """Return the sum of convolutions and values in one buffer."""
    total = Sum((), ())
    for term in terms:
        if isinstance(term, Sum):
            total = Sum(
                total.convolutions + term.convolutions,
                total.values + term.values,
                total.biases + term.biases,
            )
        else:
            total = replace(total, values=(*total.values, term))
    return total


def _read_elsewhere(step: Step) -> list[str]:
    """Return the buffers that a step reads at other pixels than its own."""
    names = [span.buffer for span in step.sources if span.dr or span.dc]
    if isinstance(step, Product) and step.src and (any(step.rows) or any(step.cols)):
        names.append(step.src.buffer)
    return names


def _overlap(a: Offset, b: Offset) -> Offset | None:
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low <= high else None


def _contains(outer: Offset, inner: Offset) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]
