"""The builder of a graph, which follows the origins of all tensors of a tape."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pixelsr.errors import UnsupportedOperation

from .graph import (
    BoolArray,
    Bounds,
    Given,
    Graph,
    Image,
    Map,
    Op,
    Operand,
    PerChannel,
    Pointwise,
    Recipe,
)
from .ir import Expression
from .origins import (
    ZERO,
    Layout,
    Origins,
    Reads,
    Unstructured,
    given_parts,
    layout_of,
    of_given,
    of_map,
    reads_of,
)
from .tape import CONDITION, CONSTANT, IMAGE, Entry, Pass, Ref


class Builder:
    """The graph of a tape while it is built, with the origins of every storage."""

    def __init__(self, passed: Pass, colors: int, levels: int, image_size: tuple[int, int]) -> None:
        self.values = {CONSTANT: passed.constants, CONDITION: passed.conditions}
        self.graph = Graph(image_size, passed.tape.entries)
        self.storages: dict[int, Origins] = {}
        self.sources: list[tuple[str, int]] = [("zero", 0)]  # of given elements, by number
        self.source_numbers: dict[tuple[str, int], int] = {}
        self.scalars: list[float] = []
        self.errors: list[UnsupportedOperation] = []
        self.entry, self.entry_number = Entry("network", (), {}, (), ()), -1
        self._constants: dict[object, str] = {}
        height, width = image_size
        image = self.add(Image(), colors, image_size, bounds=(0, levels - 1))
        self.storages[0] = of_map(image, colors, height, width).reshape(-1)

    # Origins.

    def origins(self, ref: Ref) -> Origins:
        """Return the origins of a tensor on the tape."""
        if ref.kind != IMAGE:
            return self._given_origins(ref)
        storage = self.storages[ref.number]
        strides = [8 * stride for stride in ref.strides]
        return np.lib.stride_tricks.as_strided(storage[ref.offset :], ref.shape, strides)

    def write(self, ref: Ref, size: int, origins: Origins) -> None:
        """Set the origins of a result, in a storage of `size` elements."""
        if ref.number not in self.storages:
            self.storages[ref.number] = np.full(size, ZERO, dtype=np.int64)
        self.origins(ref)[...] = origins

    def set_result(self, origins: Origins) -> None:
        """Set the origins of the current operation's first result."""
        self.write(self.entry.outs[0], self.entry.sizes[0], origins)

    def map_origins(self, number: int) -> Origins:
        """Return the origins of a map's elements, ``[channels, height, width]``."""
        made = self.graph.maps[number]
        return of_map(number, made.channels, *made.size)

    def _given_origins(self, ref: Ref) -> Origins:
        value = self.values[ref.kind][ref.number]
        if ref.kind == CONSTANT and not value.any():
            self.graph.zeros.add(ref.number)
            return np.full(ref.shape, ZERO, dtype=np.int64)
        return of_given(self.source(ref.kind, ref.number), ref.shape)

    def source(self, kind: str, number: int) -> int:
        """Return the number of a given tensor in origins."""
        key = (kind, number)
        if key not in self.source_numbers:
            self.source_numbers[key] = len(self.sources)
            self.sources.append(key)
        return self.source_numbers[key]

    def scalar(self, value: float) -> int:
        """Return the origin of an element with a fixed value."""
        if value == 0:
            return ZERO
        if value not in self.scalars:
            self.scalars.append(float(value))
        return int(of_given(self.source("scalar", self.scalars.index(value)), (1,))[0])

    def poison(self, error: UnsupportedOperation) -> int:
        """Return the origin of elements that no plan can compute."""
        self.errors.append(error)
        return int(of_given(self.source("error", len(self.errors) - 1), (1,))[0])

    def check(self, origins: Origins) -> None:
        """Raise the error of the first element that no plan can compute."""
        if not self.errors:
            return
        numbers, _ = given_parts(origins[origins < 0])
        for number in np.unique(numbers).tolist():
            kind, error = self.sources[number]
            if kind == "error":
                raise self.errors[error]

    # Maps.

    def add(
        self,
        op: Op,
        channels: int,
        size: tuple[int, int],
        captured: tuple[int, Layout] | None = None,
        bounds: Bounds | None = None,
    ) -> int:
        """Append a map, and return its number."""
        number = len(self.graph.maps)
        entry = self.entry_number if number else -1
        self.graph.maps.append(Map(number, op, channels, size, entry, captured, bounds))
        return number

    def result(self, op: Op, layout: Layout, bounds: Bounds | None = None) -> None:
        """Append the map that is the first result of the current operation."""
        channels, height, width = layout.sizes
        number = self.add(op, channels, (height, width), (0, layout), bounds)
        self.set_result(layout.restored(self.map_origins(number)))

    def computed(self, expression: Expression, *args: Operand) -> Operand:
        """Append an intermediate map of a pointwise expression, and return it as an operand."""
        op = Pointwise(expression, args)
        return self.whole(self.add(op, len(args[0].reads), args[0].size))

    def whole(self, number: int) -> Operand:
        """Return all channels of a map as an operand."""
        made = self.graph.maps[number]
        zeros = np.zeros(made.channels, dtype=np.int64)
        reads = Reads(zeros + number, np.arange(made.channels), zeros, zeros)
        return Operand(reads, made.size)

    def layout(self, *origins: Origins) -> Layout:
        """Return the common layout of tensors of one shape."""
        best = max(origins, key=lambda own: np.count_nonzero(own >= 0))
        return layout_of(best)

    def operand(self, canonical: Origins, *, pointwise: bool = False) -> Operand:
        """Return ``[channels, height, width]`` as an operand, with maps for what is given.

        Args:
            pointwise: True if nothing beyond the operand is read.

        Raises:
            Unstructured: the elements of a channel are not one shifted channel of a map.
        """
        self.check(canonical)
        reads, inside = reads_of(canonical)
        size = canonical.shape[1], canonical.shape[2]
        irregular = self._irregular(reads, inside, canonical)
        given = np.flatnonzero(reads.map < 0)
        arrays = [array.copy() for array in (reads.map, reads.channel, reads.dr, reads.dc)]
        for channels, number in (
            *self._selected(irregular, reads, inside, canonical),
            *self._given(given, canonical, pointwise),
        ):
            arrays[0][channels], arrays[1][channels] = number, np.arange(len(channels))
            arrays[2][channels] = arrays[3][channels] = 0
        return Operand(Reads(*arrays), size)

    def _irregular(self, reads: Reads, inside: BoolArray, canonical: Origins) -> NDArray[np.int_]:
        """Return the channels that are not a shifted map with zeros around it."""
        height, width = canonical.shape[1:]
        full = inside.reshape(len(reads), -1).all(1)
        found = []
        domains: dict[tuple[int, int, int], BoolArray] = {}
        for k in np.flatnonzero(~full & (reads.map >= 0)).tolist():
            number, dr, dc = int(reads.map[k]), int(reads.dr[k]), int(reads.dc[k])
            if (number, dr, dc) not in domains:
                rows, cols = np.arange(height) + dr, np.arange(width) + dc
                own = self.graph.maps[number].size
                domains[number, dr, dc] = ((rows >= 0) & (rows < own[0]))[:, None] & (
                    (cols >= 0) & (cols < own[1])
                )
            domain = domains[number, dr, dc]
            if not ((inside[k] == domain).all() and (canonical[k][~domain] == ZERO).all()):
                found.append(k)
        return np.array(found, dtype=int)

    def _selected(
        self, channels: NDArray[np.int_], reads: Reads, inside: BoolArray, canonical: Origins
    ) -> list[tuple[NDArray[np.int_], int]]:
        """Make the map of channels that are given at some positions and read a map at others."""
        if not len(channels):
            return []
        size = canonical.shape[1], canonical.shape[2]
        mask = inside[channels]
        chosen = self.add(
            Given("fixed", 0, np.zeros((0, 0, 0), dtype=np.int64), mask.astype(np.float64)),
            len(channels),
            size,
        )
        args = [self.whole(chosen), Operand(reads[channels], size)]
        expression: Expression = ("where", ("arg", 0), ("arg", 1), ("const", 0.0))
        others = np.where(mask, ZERO, canonical[channels])
        if (others != ZERO).any():
            args.append(self.operand(others, pointwise=True))
            expression = (*expression[:3], ("arg", 2))
        return [(channels, self.add(Pointwise(expression, tuple(args)), len(channels), size))]

    def _given(
        self, channels: NDArray[np.int_], canonical: Origins, pointwise: bool
    ) -> list[tuple[NDArray[np.int_], int]]:
        """Make the maps of channels that do not depend on the image, one for each source."""
        if not len(channels):
            return []
        sources, elements = given_parts(canonical[channels])
        by_source: dict[int, list[int]] = {}
        for place in range(len(channels)):
            own = np.unique(sources[place])
            own = own[own != 0] if len(own) > 1 else own
            if len(own) > 1:
                raise Unstructured("mixes several constants within a channel")
            by_source.setdefault(int(own[0]), []).append(place)
        made = []
        for source, places in by_source.items():
            index = np.where(sources[places] == source, elements[places], -1)
            made.append((channels[places], self._given_map(source, index, pointwise)))
        return made

    def _given_map(self, source: int, index: Origins, pointwise: bool) -> int:
        kind, number = self.sources[source]
        size = index.shape[1], index.shape[2]
        uniform = (index == index[:, :1, :1]).all() and (index >= 0).all()
        if kind in ("zero", "scalar"):
            value = 0.0 if kind == "zero" else self.scalars[number]
            values = np.where(index >= 0, value, 0.0)
            op: Op = Given("fixed", 0, np.zeros((0, 0, 0), dtype=np.int64), values)
        elif kind == CONSTANT and uniform and (pointwise or size == self.graph.image_size):
            op = PerChannel(self.constant(number, flat), tuple(index[:, 0, 0].tolist()))
        else:
            op = Given(kind, number, index)
        return self.add(op, len(index), size)

    # Constants.

    def constant(self, number: int, view: Callable[[Tensor], Tensor]) -> str:
        """Return the name of a view of constant `number`; `view` is a function of a module."""
        return self.recipe((number, view), lambda constants: view(constants[number]))

    def recipe(self, key: object, recipe: Recipe) -> str:
        """Return the name of a constant that is computed from those of a pass."""
        if key not in self._constants:
            self._constants[key] = name = f"constant {len(self._constants)}"
            self.graph.recipes[name] = recipe
        return self._constants[key]

    def value(self, ref: Ref) -> Tensor:
        """Return the values of a constant that the structure depends on."""
        if ref.kind != CONSTANT:
            raise self.unsupported(f"depends on values of {_KINDS[ref.kind]}; expected constants")
        self.graph.fixed[ref.number] = self.values[CONSTANT][ref.number].clone()
        return self.graph.fixed[ref.number]

    def weight(self, ref: Ref, view: Callable[[Tensor], Tensor]) -> tuple[str, BoolArray]:
        """Return the name of a weight ``[out, in, rows, columns]``, and its nonzero elements."""
        if ref.kind != CONSTANT:
            raise self.unsupported(f"its weight depends on {_KINDS[ref.kind]}; expected a constant")
        name = self.constant(ref.number, view)
        live = (view(self.values[CONSTANT][ref.number]) != 0).cpu().numpy()
        self.graph.live[name] = live
        return name, live

    def unsupported(self, why: str) -> UnsupportedOperation:
        """Return the error for the current operation."""
        return self.entry.unsupported(why)


_KINDS = {IMAGE: "the image", CONDITION: "low_res"}


def flat(tensor: Tensor) -> Tensor:
    """Return the elements of a tensor in a row."""
    return tensor.reshape(-1)
