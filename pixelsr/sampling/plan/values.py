"""Feature maps while a plan is made: where each channel stands, and when it is known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PlanError
from .steps import Expression, Span

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Channel:
    """One channel of a feature map: its place in a buffer, its stage, and what made it so late."""

    buffer: str
    index: int
    stage: int
    cause: str


@dataclass(frozen=True)
class Value:
    """A feature map that stands in buffers, channel by channel."""

    channels: tuple[Channel, ...]

    @property
    def stages(self) -> NDArray[np.int_]:
        return np.array([channel.stage for channel in self.channels])


@dataclass(frozen=True)
class Convolution:
    """A convolution that still has to be summed somewhere.

    `live[o, i, r, c]` tells which taps count; row and column offsets are `rows[r]`, `cols[c]`.
    """

    layer: str
    source: Value
    live: BoolArray
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    has_bias: bool


@dataclass(frozen=True)
class Sum:
    """A sum of convolutions and feature maps, that one buffer will accumulate."""

    convolutions: tuple[Convolution, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Formula:
    """A pointwise expression of feature maps that no buffer holds yet."""

    expression: Expression
    args: tuple[Value, ...]


Deferred = Value | Sum | Formula


def runs(*columns: list[tuple[str, int]]) -> list[tuple[Span, ...]]:
    """Cut parallel lists of (buffer, index) into the longest runs that are consecutive in each."""
    spans: list[tuple[Span, ...]] = []
    start, size = 0, len(columns[0])
    for end in range(1, size + 1):
        if end < size and all(_follows(column[end - 1], column[end]) for column in columns):
            continue
        spans.append(tuple(Span(*column[start], end - start) for column in columns))
        start = end
    return spans


def _follows(a: tuple[str, int], b: tuple[str, int]) -> bool:
    return a[0] == b[0] and a[1] + 1 == b[1]


def groups_of_equal(patterns: NDArray[np.bool_]) -> list[tuple[list[int], BoolArray]]:
    """Indices whose rows of `patterns` are equal and not all false, with that row."""
    found: dict[bytes, list[int]] = {}
    for index, pattern in enumerate(patterns):
        if pattern.any():
            found.setdefault(pattern.tobytes(), []).append(index)
    return [(indices, patterns[indices[0]]) for indices in found.values()]


def cut(value: Value, parts: int) -> list[Value]:
    size = -(-len(value.channels) // parts)
    return [
        Value(value.channels[start : start + size]) for start in range(0, len(value.channels), size)
    ]


def broadcast(value: Value, width: int) -> Value:
    """A map of one channel as `width` equal ones."""
    if len(value.channels) not in (1, width):
        raise PlanError(f"feature maps of {len(value.channels)} and {width} channels together")
    return value if len(value.channels) == width else Value(value.channels * width)


def shifted(expression: Any, offset: int) -> Any:
    """The expression with its arguments counted from `offset`."""
    if expression[0] == "arg":
        return ("arg", expression[1] + offset)
    if expression[0] == "const":
        return expression
    return (expression[0], *(shifted(operand, offset) for operand in expression[1:]))
