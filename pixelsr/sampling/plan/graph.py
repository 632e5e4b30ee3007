"""The feature maps of a network, built from its tape."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .ir import Expression
from .origins import Layout, Origins, Reads
from .tape import Entry

BoolArray = NDArray[np.bool_]
Recipe = Callable[[Sequence[Tensor]], Tensor]
"""A function from the constants of a pass, by number, to a tensor that a plan reads."""

Bounds = tuple[float, float]
"""The least and greatest value of integers."""

Biases = tuple[tuple[str, tuple[int, ...]], ...]
"""Pairs of a constant's name and its elements."""


@dataclass(frozen=True)
class Image:
    """The drawn image."""


@dataclass(frozen=True)
class Given:
    """A feature map that is known before the first pixel.

    Attributes:
        kind: "constant", "condition", or "fixed" for values that the plan itself holds.
        number: the number of the operand in its pass.
        index: int64 ``[channels, H, W]``, the element of the operand; -1 for zero.
        values: float64 ``[channels, H, W]`` if the kind is "fixed".
        shift: rows and columns by which the buffer is shifted.
    """

    kind: str
    number: int
    index: Origins
    values: NDArray[np.float64] | None = None
    shift: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class PerChannel:
    """A number for each channel: elements of the flat tensor `constant`."""

    constant: str
    index: tuple[int, ...]


@dataclass(frozen=True)
class Operand:
    """A tensor ``[len(reads), *size]`` that an operation reads, with zeros around it."""

    reads: Reads
    size: tuple[int, int]


@dataclass(frozen=True)
class Term:
    """A convolution of an operand.

    Output channel o at (y, x) is the sum of
    ``weight[first_out + o, i, r, c] * operand[i, y + rows[r], x + cols[c]]``
    over the taps that are true in `live`, bool ``[out, in, rows, columns]``. `is_sum` is that of
    `ir.Weight`.
    """

    operand: Operand
    weight: str
    live: BoolArray
    rows: tuple[int, ...]
    cols: tuple[int, ...]
    is_sum: bool = False

    @property
    def used(self) -> NDArray[np.int64]:
        """Return the input channels that some tap reads."""
        return np.flatnonzero(self.live.any((0, 2, 3)))

    @property
    def read(self) -> Operand:
        """Return these channels of the operand."""
        return Operand(self.operand.reads[self.used], self.operand.size)


@dataclass(frozen=True)
class Linear:
    """A sum of convolutions and of biases."""

    terms: tuple[Term, ...]
    biases: Biases = ()


@dataclass(frozen=True)
class Pointwise:
    """A pointwise expression of operands."""

    expression: Expression
    args: tuple[Operand, ...]


@dataclass(frozen=True)
class Recurrence:
    """A Row LSTM (one direction) or a Diagonal BiLSTM (two).

    Attributes:
        states: pairs of constants of each direction, weight ``[4 h, h, 1, taps]`` and state.
        taps: the number of taps.
    """

    kind: str
    gates: Operand
    states: tuple[tuple[str, str], ...]
    taps: int


Op = Image | Given | PerChannel | Linear | Pointwise | Recurrence


@dataclass(frozen=True, eq=False)
class Map:
    """A feature map ``[channels, *size]``.

    Attributes:
        op: how it is computed.
        entry: the number of the tape's entry that it comes from; -1 for none.
        captured: the number of the entry's result, and its layout; None for a map that is not
            itself a result.
        bounds: the least and greatest value of a map of integers.
    """

    number: int
    op: Op
    channels: int
    size: tuple[int, int]
    entry: int = -1
    captured: tuple[int, Layout] | None = None
    bounds: Bounds | None = None

    @property
    def operands(self) -> list[Operand]:
        """Return the operands of the map's operation."""
        if isinstance(self.op, Linear):
            return [term.read for term in self.op.terms]
        if isinstance(self.op, Pointwise):
            return list(self.op.args)
        return [self.op.gates] if isinstance(self.op, Recurrence) else []


@dataclass
class Graph:
    """The feature maps of a tape, in order.

    Attributes:
        recipes: the constants that the plan reads.
        fixed: numbers of constants whose values determine the structure, with these values.
        zeros: numbers of constants that must be zero.
        repeated: numbers of constants that must repeat their first matrix.
        live: the taps that may be nonzero, by constant.
    """

    image_size: tuple[int, int]
    entries: tuple[Entry, ...]
    maps: list[Map] = field(default_factory=list)
    logits: Reads | None = None
    recipes: dict[str, Recipe] = field(default_factory=dict)
    fixed: dict[int, Tensor] = field(default_factory=dict)
    zeros: set[int] = field(default_factory=set)
    repeated: set[int] = field(default_factory=set)
    live: dict[str, BoolArray] = field(default_factory=dict)

    def where(self, number: int) -> str:
        """Return the name and place of a map's operation for messages."""
        entry = self.entries[self.maps[number].entry] if self.maps[number].entry >= 0 else None
        if entry is None:
            return "the image"
        place = f" of layer {entry.module}" if entry.module else ""
        return f"{entry.name}{place}" + (f" ({entry.source})" if entry.source else "")
