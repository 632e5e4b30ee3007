"""Symbolic feature maps for the planner: the buffer, the index and the stage of each channel."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsr.errors import PlanError

from .ir import ROW, Expression, Span

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Channel:
    """One channel of a feature map: its index in a buffer and its stage.

    The channel is read at the pixel `dr` rows below and `dc` columns to the right.
    """

    buffer: str
    index: int
    stage: int
    dr: int = 0
    dc: int = 0

    @property
    def place(self) -> "Place":
        return self.buffer, self.index, self.dr, self.dc


Place = tuple[str, int, int, int]
"""A channel's buffer, its index in the buffer, and its row and column offsets."""


@dataclass(frozen=True)
class Value:
    """A feature map whose channels are in buffers.

    It is computed in `padding` more columns than the image has. None means that it is constant
    along a row, and computed wherever it is read.
    """

    channels: tuple[Channel, ...]
    padding: int | None = 0

    @property
    def stages(self) -> NDArray[np.int_]:
        return np.array([channel.stage for channel in self.channels])

    def shifted(self, dr: int, dc: int) -> "Value":
        """Return the feature map read at an offset to an earlier pixel."""
        stage = ROW if dr < 0 else 0
        channels = (
            replace(c, dr=c.dr + dr, dc=c.dc + dc, stage=min(c.stage, stage)) for c in self.channels
        )
        return Value(tuple(channels), self.padding)


@dataclass(frozen=True)
class Convolution:
    """A convolution that has no buffer yet.

    `live[o, i, r, c]` is true for live taps; their row and column offsets are `rows[r]` and
    `cols[c]`. In the constant `weight`, the first output is channel `first_out`, and channel i of
    the source is input channel ``in_channels[i]``. `is_sum` is that of `ir.Weight`.
    """

    weight: str
    source: Value
    live: BoolArray
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    in_channels: tuple[int, ...]
    first_out: int = 0
    is_sum: bool = False


@dataclass(frozen=True)
class Sum:
    """A sum of convolutions, biases and feature maps that one buffer will accumulate.

    `biases` holds pairs of a constant's name and its element for each channel. The sum is not known
    before the stage `earliest`, since another term is added later.
    """

    convolutions: tuple[Convolution, ...]
    values: tuple[Value, ...]
    biases: tuple[tuple[str, tuple[int, ...]], ...] = ()
    earliest: int = ROW

    @property
    def width(self) -> int:
        """Return the number of channels."""
        sizes = {len(value.channels) for value in self.values}
        sizes |= {len(convolution.live) for convolution in self.convolutions}
        if len(sizes) > 1:
            raise PlanError(f"feature maps of {sorted(sizes)} channels cannot be added")
        return sizes.pop()


@dataclass(frozen=True)
class PointwiseValue:
    """A pointwise expression of feature maps that has no buffer yet."""

    expression: Expression
    args: tuple[Value, ...]


Deferred = Value | Sum | PointwiseValue


def runs(*columns: list[Place]) -> list[tuple[Span, ...]]:
    """Cut parallel lists of `Place`s into the longest runs that are consecutive in each list."""
    spans: list[tuple[Span, ...]] = []
    start, size = 0, len(columns[0])
    for end in range(1, size + 1):
        if end < size and all(_follows(column[end - 1], column[end]) for column in columns):
            continue
        firsts = (column[start] for column in columns)
        spans.append(tuple(Span(name, i, end - start, dr, dc) for name, i, dr, dc in firsts))
        start = end
    return spans


def _follows(a: Place, b: Place) -> bool:
    name, index, *offsets = a
    return b == (name, index + 1, *offsets)


def groups_of_equal(patterns: NDArray[np.bool_]) -> list[tuple[list[int], BoolArray]]:
    """Group the indices of equal rows of `patterns`, skipping rows that are all false."""
    found: dict[bytes, list[int]] = {}
    for index, pattern in enumerate(patterns):
        if pattern.any():
            found.setdefault(pattern.tobytes(), []).append(index)
    return [(indices, patterns[indices[0]]) for indices in found.values()]


def cut(value: Value, parts: int) -> list[Value]:
    size = -(-len(value.channels) // parts)
    starts = range(0, len(value.channels), size)
    return [Value(value.channels[start : start + size], value.padding) for start in starts]


def shifted(expression: Any, offset: int) -> Any:
    """Return the expression with `offset` added to its argument numbers."""
    if expression[0] == "arg":
        return ("arg", expression[1] + offset)
    if expression[0] == "const":
        return expression
    return (expression[0], *(shifted(operand, offset) for operand in expression[1:]))
