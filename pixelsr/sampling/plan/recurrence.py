"""The lowering of PixelRNN's recurrences, `functional.row_lstm` and `functional.diagonal_bilstm`.

A recurrence reads earlier positions of its own feature maps. A convolution of the hidden states is
added to the gates, and the previous cell state is an argument of the new one. Steps that proceed
from pixel to pixel along a row form one `Scan`.
"""

from dataclasses import dataclass, replace

import numpy as np

from .ir import Initial, Product, Span, Weight
from .lowering import Emitter, stages_of
from .symbolic import Convolution, PointwiseValue, Sum, Value, cut

_CELL = (
    "add",
    ("mul", ("sigmoid", ("arg", 0)), ("arg", 1)),
    ("mul", ("tanh", ("arg", 2)), ("sigmoid", ("arg", 3))),
)
"""The cell state from gate f, the previous cell state, gate g and gate i."""
_HIDDEN = ("mul", ("tanh", ("arg", 0)), ("sigmoid", ("arg", 1)))
"""The hidden state from the cell state and gate o."""


@dataclass(frozen=True)
class StateToState:
    """The parameters of one direction of a recurrence.

    Attributes:
        weight: name of the constant ``[4 h, h, 1, taps]``.
        initial: name of the constant ``[2, h]``, the initial hidden and cell state.
        taps: number of taps.
    """

    weight: str
    initial: str
    taps: int


def emit_row_lstm(
    emitter: Emitter, name: str, gates: Sum, states: StateToState, width: int, padding: int
) -> Value:
    """Emit a Row LSTM for images of `width` columns, and return its hidden states."""
    away = states.taps // 2
    start = Initial(states.initial, 0, -1, range(width + padding))
    recurrence = _Recurrence(emitter, name, gates, states, start, padding)
    recurrence.add_above(tuple(range(-away, away + 1)))
    recurrence.emit_cells(-1, 0)
    return recurrence.hidden


def emit_diagonal_bilstm(
    emitter: Emitter,
    name: str,
    gates: Sum,
    left: StateToState,
    right: StateToState,
    width: int,
    padding: int,
) -> tuple[Value, Value]:
    """Emit both directions of a Diagonal BiLSTM; the second is shifted down by one row."""
    half = gates.width // 2
    own, reverse = _channels(gates, slice(half)), _channels(gates, slice(half, None))
    return (
        _emit_left_to_right(emitter, f"{name}.left", own, left, padding),
        _emit_right_to_left(emitter, f"{name}.right", reverse, right, width, padding),
    )


def _emit_left_to_right(
    emitter: Emitter, name: str, gates: Sum, states: StateToState, padding: int
) -> Value:
    start = Initial(states.initial, 0, None, range(-1, 0))
    late = replace(gates, earliest=0)  # the state to the left is added later
    recurrence = _Recurrence(emitter, name, late, states, start, padding)
    recurrence.add_above((0,))
    with emitter.scan(reverse=False):
        recurrence.add_beside(-1, "left")
        recurrence.emit_cells(0, -1)
    return recurrence.hidden


def _emit_right_to_left(
    emitter: Emitter, name: str, gates: Sum, states: StateToState, width: int, padding: int
) -> Value:
    """Emit the right-to-left direction; each row computes the states of the finished row above."""
    end = width + padding
    start = Initial(states.initial, 0, None, range(end, end + 1))
    with emitter.marked(first_row=1):
        recurrence = _Recurrence(emitter, name, _of_row_above(gates), states, start, padding)
        recurrence.add_above((0,))
        with emitter.scan(reverse=True):
            recurrence.add_beside(1, "row")
            recurrence.emit_cells(0, 1)
    return recurrence.hidden


class _Recurrence:
    """The states of a recurrence and the sums of its gates."""

    def __init__(
        self,
        emitter: Emitter,
        name: str,
        gates: Sum,
        states: StateToState,
        start: Initial,
        padding: int,
    ) -> None:
        self.emitter, self.name, self.gates, self.padding = emitter, name, gates, padding
        self.weight = states.weight
        stages = np.reshape(stages_of(gates), (4, -1)).max(0).tolist()
        self.hidden = emitter.allocate(name, stages, padding)
        self.cell = emitter.allocate(f"{name}.cell", stages, padding)
        emitter.buffers[name].initial = start
        emitter.buffers[f"{name}.cell"].initial = replace(start, part=1)

    def add_above(self, cols: tuple[int, ...]) -> None:
        """Emit the gates, including the state-to-state taps that read the row above."""
        size = len(self.hidden.channels)
        live = np.ones((4 * size, size, 1, len(cols)), dtype=bool)
        above = Convolution(self.weight, self.hidden, live, (-1,), cols, tuple(range(size)))
        total = replace(self.gates, convolutions=(*self.gates.convolutions, above))
        self.sums = self.emitter.place(total, f"{self.name}.gates", self.padding)

    def add_beside(self, col: int, when: str) -> None:
        """Emit the second state-to-state tap, which reads the neighbor at column offset `col`."""
        out, src = (self.emitter.buffers[f"{self.name}{suffix}"] for suffix in (".gates", ""))
        weight = Weight(self.weight, out.order, src.order, (0,), (1,))
        spans = Span(out.name, 0, out.channels), Span(src.name, 0, src.channels)
        step = Product(*spans, (0,), (col,), weight, (), overwrite=False)
        self.emitter.emit(step, when, padding=self.sums.padding)

    def emit_cells(self, dr: int, dc: int) -> None:
        """Emit the states from the gates and the cell state at the offset (`dr`, `dc`)."""
        o, f, i, g = cut(self.sums, 4)
        before = self.cell.shifted(dr, dc)
        self.emitter.emit_pointwise(self.cell, PointwiseValue(_CELL, (f, before, g, i)))
        self.emitter.emit_pointwise(self.hidden, PointwiseValue(_HIDDEN, (self.cell, o)))


def _channels(total: Sum, chosen: slice) -> Sum:
    """Return some channels of a sum."""
    convolutions = (
        replace(c, live=c.live[chosen], first_out=c.first_out + (chosen.start or 0))
        for c in total.convolutions
    )
    values = (replace(value, channels=value.channels[chosen]) for value in total.values)
    biases = tuple((name, channels[chosen]) for name, channels in total.biases)
    return replace(total, convolutions=tuple(convolutions), values=tuple(values), biases=biases)


def _of_row_above(total: Sum) -> Sum:
    """Return a sum shifted down by one row."""
    convolutions = (replace(c, rows=tuple(row - 1 for row in c.rows)) for c in total.convolutions)
    values = (value.shifted(-1, 0) for value in total.values)
    return replace(total, convolutions=tuple(convolutions), values=tuple(values))
