"""Feature maps while a plan is made: where each channel stands, and when it is known."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsr.errors import PlanError

from .ir import ROW, Expression, Span

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Channel:
    """One channel of a feature map: its place in a buffer, its stage, and what made it so late.

    It is that of the pixel `dr` rows below and `dc` columns to the right.
    """

    buffer: str
    index: int
    stage: int
    cause: str
    dr: int = 0
    dc: int = 0

    @property
    def place(self) -> "Place":
        return self.buffer, self.index, self.dr, self.dc


Place = tuple[str, int, int, int]
"""Of a channel: its buffer and its number there, rows below and columns to the right."""


@dataclass(frozen=True)
class Value:
    """A feature map that stands in buffers, channel by channel.

    It has `padding` columns more than the image; None: it is the same everywhere.
    """

    channels: tuple[Channel, ...]
    padding: int | None = 0

    @property
    def stages(self) -> NDArray[np.int_]:
        return np.array([channel.stage for channel in self.channels])

    def shifted(self, dr: int, dc: int) -> "Value":
        """At each pixel, what stood at an earlier one."""
        stage = ROW if dr < 0 else 0
        channels = (
            replace(c, dr=c.dr + dr, dc=c.dc + dc, stage=min(c.stage, stage)) for c in self.channels
        )
        return Value(tuple(channels), self.padding)


@dataclass(frozen=True)
class Convolution:
    """A convolution that still has to be summed somewhere.

    `live[o, i, r, c]` tells which taps count; row and column offsets are `rows[r]`, `cols[c]`. The
    first output is the channel `first_out` of the layer.
    """

    layer: str
    source: Value
    live: BoolArray
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    has_bias: bool
    parameter: str = "weight"
    first_out: int = 0


@dataclass(frozen=True)
class Sum:
    """A sum of convolutions and feature maps, that one buffer will accumulate.

    Nothing of it is known before the stage `earliest`, as something else will be added.
    """

    convolutions: tuple[Convolution, ...]
    values: tuple[Value, ...]
    earliest: int = ROW

    @property
    def padding(self) -> int | None:
        return common_padding([*(c.source for c in self.convolutions), *self.values])

    @property
    def width(self) -> int:
        """Channels."""
        sizes = {len(value.channels) for value in self.values}
        sizes |= {len(convolution.live) for convolution in self.convolutions}
        if len(sizes) > 1:
            raise PlanError(f"a sum of feature maps of {sorted(sizes)} channels")
        return sizes.pop()


@dataclass(frozen=True)
class PointwiseValue:
    """A pointwise expression of feature maps that no buffer holds yet."""

    expression: Expression
    args: tuple[Value, ...]

    @property
    def padding(self) -> int | None:
        return common_padding(self.args)


Deferred = Value | Sum | PointwiseValue


def common_padding(values: Iterable[Value]) -> int | None:
    """The columns beyond the image of values that are used together."""
    found = {value.padding for value in values if value.padding is not None}
    if len(found) > 1:
        raise PlanError(f"feature maps of different widths together: padded by {sorted(found)}")
    return found.pop() if found else None


def runs(*columns: list[Place]) -> list[tuple[Span, ...]]:
    """Cut parallel lists of places into the longest runs that are consecutive in each."""
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
    """Indices whose rows of `patterns` are equal and not all false, with that row."""
    found: dict[bytes, list[int]] = {}
    for index, pattern in enumerate(patterns):
        if pattern.any():
            found.setdefault(pattern.tobytes(), []).append(index)
    return [(indices, patterns[indices[0]]) for indices in found.values()]


def cut(value: Value, parts: int) -> list[Value]:
    size = -(-len(value.channels) // parts)
    starts = range(0, len(value.channels), size)
    return [Value(value.channels[start : start + size], value.padding) for start in starts]


def broadcast(value: Value, width: int) -> Value:
    """A map of one channel as `width` equal ones."""
    if len(value.channels) not in (1, width):
        raise PlanError(f"feature maps of {len(value.channels)} and {width} channels together")
    return value if len(value.channels) == width else Value(value.channels * width, value.padding)


def shifted(expression: Any, offset: int) -> Any:
    """The expression with its arguments counted from `offset`."""
    if expression[0] == "arg":
        return ("arg", expression[1] + offset)
    if expression[0] == "const":
        return expression
    return (expression[0], *(shifted(operand, offset) for operand in expression[1:]))
