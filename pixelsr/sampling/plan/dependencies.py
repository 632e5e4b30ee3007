"""Dependencies among the steps of a plan: what an edit affects, and what a value needs.

A *cell* is a run of channels of a buffer that the same steps write; all of it is valid or invalid
together. A *region* is a set of positions of each image, bool ``[N, H, W]``. Cells share regions,
so regions are never modified.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pixelsr.errors import PlanError
from pixelsr.utils.weak_cache import weak_cache

from .ir import Plan, Pointwise, Product, Span, Step
from .symbolic import BoolArray

Regions = Mapping[int, BoolArray]
"""The region of each cell by number; cells without a region are left out."""

_HERE = (0,)

_Terms = frozenset[int]
"""A region as a union of `_Way`s, by their numbers."""

_Way = tuple[_Terms, tuple[int, ...], tuple[int, ...]]
"""The region of all positions that read a union of ways at the offsets rows x cols."""


@dataclass(frozen=True)
class Read:
    """A read of some cells at the pixel offsets `rows` x `cols`."""

    cells: tuple[int, ...]
    rows: tuple[int, ...] = _HERE
    cols: tuple[int, ...] = _HERE


@dataclass(frozen=True)
class Cell:
    """A run of channels that the same steps write.

    Attributes:
        first_row: the first row in which the steps run; rows above stay zero.
        steps: all steps that write the channels, in order: the first overwrites, the others add.
            Empty for the image and for conditioning features.
        reads: distinct numbers of reads in `Cells.reads`.
    """

    span: Span
    first_row: int
    steps: tuple[Step, ...]
    reads: tuple[int, ...]

    @property
    def macs(self) -> int:
        """Return the number of multiply-adds at one pixel."""
        return sum(step.macs for step in self.steps)


class Cells:
    """The cells of a plan's buffers, and the dependencies between them.

    Raises:
        PlanError: the plan is not local.

    Attributes:
        cells: all cells, each after the cells that it reads. The sum of their multiply-adds at one
            pixel equals the plan's.
        reads: all distinct reads; several cells may share one.
        reach: the most pixels above, below, left and right of a change that it can affect.
    """

    def __init__(self, plan: Plan) -> None:
        if not plan.is_local:
            raise PlanError(
                "edits of networks with recurrences or padded images are not supported: a change "
                "affects everything after it; call the network itself for the logits"
            )
        whole = [placed.step for placed in plan.placed]
        given = [plan.image, *plan.conditioning]
        order = dict.fromkeys([*given, *(step.out.buffer for step in whole)])
        bounds = _bounds(plan, whole)
        spans = [
            Span(name, first, end - first)
            for name in order
            for first, end in itertools.pairwise(sorted(bounds[name]))
        ]
        self._numbers: dict[str, list[tuple[int, Span]]] = {name: [] for name in order}
        for number, span in enumerate(spans):
            self._numbers[span.buffer].append((number, span))
        steps: list[list[Step]] = [[] for _ in spans]
        first_rows = [0] * len(spans)
        for placed in plan.placed:
            step = placed.step
            for number in self.of(step.out):
                span = spans[number]
                steps[number].append(_narrowed(step, span.first - step.out.first, span.count))
                first_rows[number] = placed.first_row
        reads: dict[Read, int] = {}
        self.cells = tuple(
            Cell(span, first_rows[number], tuple(own), self._reads_of(number, own, reads))
            for number, (span, own) in enumerate(zip(spans, steps, strict=True))
        )
        self.reads = tuple(reads)
        self.reach = self._reach()
        self._ways: dict[_Terms, tuple[list[_Way], dict[int, _Terms]]] = {}

    def of(self, span: Span) -> tuple[int, ...]:
        """Return the cells that share a channel with a span."""
        end = span.first + span.count
        return tuple(
            number
            for number, cell in self._numbers[span.buffer]
            if cell.first < end and span.first < cell.first + cell.count
        )

    def affected(self, changed: Regions) -> dict[int, BoolArray]:
        """Return the region of each cell that becomes invalid when the given cells change.

        Cells with the same dependencies share one array.
        """
        given = frozenset(changed)
        if given not in self._ways:
            self._ways[given] = self._ways_from(given)
        ways, terms = self._ways[given]
        regions = [changed[number] for number in sorted(given)]
        for sources, rows, cols in ways[len(given) :]:
            regions.append(_shifted(_union([regions[i] for i in sources]), rows, cols))
        unions = {some: _union([regions[i] for i in some]) for some in set(terms.values())}
        return {number: unions[some] for number, some in terms.items()}

    def needed(self, wanted: Regions) -> dict[int, BoolArray]:
        """Return the region of each cell that is needed to compute the wanted regions."""
        regions = dict(wanted)
        for number, cell in reversed(list(enumerate(self.cells))):
            for read in cell.reads if number in regions else ():
                rows, cols = _opposite(self.reads[read].rows), _opposite(self.reads[read].cols)
                region = _shifted(regions[number], rows, cols)
                for source in self.reads[read].cells:
                    _join(regions, source, region)
        return regions

    def _ways_from(self, given: frozenset[int]) -> tuple[list[_Way], dict[int, _Terms]]:
        """Return the ways from the given cells, their own first, and the terms of each cell."""
        ways: dict[_Way, int] = {}

        def numbered(sources: _Terms, rows: tuple[int, ...], cols: tuple[int, ...]) -> _Terms:
            return frozenset([ways.setdefault((sources, rows, cols), len(ways))])

        # Given cells read nothing; a negative number makes the way of each one unique.
        terms = {cell: numbered(frozenset([-1 - cell]), _HERE, _HERE) for cell in sorted(given)}
        for number, cell in enumerate(self.cells):
            own = terms.get(number, frozenset())
            for read in (self.reads[i] for i in cell.reads):
                met = frozenset().union(*(terms.get(source, ()) for source in read.cells))
                here = (read.rows, read.cols) == (_HERE, _HERE)
                own |= met if here or not met else numbered(met, read.rows, read.cols)
            if own:
                terms[number] = own
        return list(ways), terms

    def _reach(self) -> tuple[int, int, int, int]:
        reach = np.zeros((len(self.cells), 4), dtype=int)
        for number, cell in enumerate(self.cells):
            for read in (self.reads[i] for i in cell.reads):
                rows, cols = read.rows, read.cols
                away = reach[list(read.cells)] + (max(rows), -min(rows), max(cols), -min(cols))
                reach[number] = np.maximum(reach[number], away.max(0))
        above, below, left, right = reach.max(0).tolist()
        return above, below, left, right

    def _reads_of(self, number: int, steps: list[Step], reads: dict[Read, int]) -> tuple[int, ...]:
        """Return the numbers of a cell's reads of other cells; assign numbers to new reads."""
        own = [
            reads.setdefault(Read(self.of(span), rows, cols), len(reads))
            for step in steps
            for span, rows, cols in _operands(step)
            if self.of(span) != (number,)
        ]
        return tuple(dict.fromkeys(own))


@weak_cache
def cells_of(plan: Plan) -> Cells:
    """Return the cells of a plan from a cache."""
    return Cells(plan)


def _bounds(plan: Plan, steps: list[Step]) -> dict[str, set[int]]:
    """Return the channel bounds of the cells of each buffer.

    Each step adds both ends of the span that it writes. It also adds the bounds of its channelwise
    operands, which precede it in the order of the network.
    """
    bounds = {name: {0, buffer.channels} for name, buffer in plan.buffers.items()}
    bounds[plan.image] = set(range(plan.colors + 1))
    for step in steps:
        out = step.out
        own = bounds[out.buffer]
        own |= {out.first, out.first + out.count}
        for arg in _channelwise(step):
            inside = (cut - arg.first for cut in bounds[arg.buffer])
            own |= {out.first + cut for cut in inside if 0 < cut < out.count}
    return bounds


def _channelwise(step: Step) -> tuple[Span, ...]:
    """Return the operands that a step reads channel by channel."""
    if isinstance(step, Pointwise):
        return step.args
    return (step.add,) if step.add else ()


def _operands(step: Step) -> Iterator[tuple[Span, tuple[int, ...], tuple[int, ...]]]:
    for arg in _channelwise(step):
        yield arg, (arg.dr,), (arg.dc,)
    if isinstance(step, Product) and step.src:
        yield step.src, step.rows, step.cols


def _narrowed(step: Step, first: int, count: int) -> Step:
    """Return the step restricted to `count` of its output channels."""

    def part(span: Span) -> Span:
        return dataclasses.replace(span, first=span.first + first, count=count)

    if isinstance(step, Pointwise):
        return Pointwise(part(step.out), tuple(map(part, step.args)), step.expression)
    chosen = slice(first, first + count)
    weight = step.weight and dataclasses.replace(
        step.weight, out_channels=step.weight.out_channels[chosen]
    )
    return dataclasses.replace(
        step,
        out=part(step.out),
        weight=weight,
        biases=tuple((name, channels[chosen]) for name, channels in step.biases),
        add=step.add and part(step.add),
    )


def _join(regions: dict[int, BoolArray], cell: int, region: BoolArray) -> None:
    regions[cell] = _union([regions[cell], region]) if cell in regions else region


def _union(regions: list[BoolArray]) -> BoolArray:
    first, *others = regions
    for other in others:
        first = first if other is first else first | other
    return first


def _opposite(offsets: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-offset for offset in offsets)


def _shifted(region: BoolArray, rows: tuple[int, ...], cols: tuple[int, ...]) -> BoolArray:
    """Return a region, true at (r, c) if `region` is true at (r + dr, c + dc) for any offsets."""
    return _shifted_along(_shifted_along(region, 2, cols), 1, rows)


def _shifted_along(region: BoolArray, axis: int, offsets: tuple[int, ...]) -> BoolArray:
    if offsets == _HERE:
        return region
    out = np.zeros_like(region)
    target, source, size = out.swapaxes(0, axis), region.swapaxes(0, axis), region.shape[axis]
    for offset in offsets:
        if abs(offset) < size:
            to, at = max(0, -offset), max(0, offset)
            target[to : size - at] |= source[at : size - to]
    return out
