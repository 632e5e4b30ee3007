"""When each feature is known while an image is drawn, and the frame in which it is computed.

The *time* of a channel says which value it needs last, relative to its own position in the feature
map: rows below, columns to the right, and colors of that pixel. Times are ordered like the raster.
A network is causal if the logits of color c need at most the first c colors of their own pixel.

A map is computed at the pixel of its own position, if it is known there and everything that reads
it comes later. Otherwise its *frame* is moved: by one row below the last row that it needs, or by
rows and columns to the first pixel at which it is known.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelsr.errors import NotCausal

from .graph import Given, Graph, Image, Linear, Map, Operand, PerChannel, Pointwise, Recurrence
from .origins import Reads

Times = NDArray[np.int64]

_COLORS, _COLS = 9, 16  # bits
_ROW = _COLORS + _COLS
_MIDDLE = 1 << (_COLS - 1)
_ALWAYS = -(1 << 62)  # the time of what is given
_ROW_ABOVE = 0  # known once all rows above are drawn

Offset = tuple[int, int]
Region = tuple[tuple[int, int], tuple[int, int]]
"""The first and last row, and the first and last column."""


def _time(row: int, col: int, color: int) -> int:
    return (row << _ROW) + ((col + _MIDDLE) << _COLORS) + color


def _by_pixel(times: Times) -> NDArray[np.bool_]:
    """Return which times name a pixel; others say that whole rows are needed."""
    return (times & ((1 << _ROW) - 1)) != 0


def _shifted(times: Times, dr: NDArray[np.int64] | int, dc: NDArray[np.int64] | int) -> Times:
    """Return the times of channels that are read at an offset."""
    moved = (
        times + (np.asarray(dr) << _ROW) + np.where(_by_pixel(times), np.asarray(dc) << _COLORS, 0)
    )
    return np.where(times == _ALWAYS, _ALWAYS, moved)


@dataclass(frozen=True)
class _Reader:
    """A read of some channels of a map, at an offset from the pixel of the reader.

    `region` says which positions of the map are read.
    """

    channels: NDArray[np.int64]
    dr: int
    dc: int
    region: Region


def _all(height: int, width: int) -> Region:
    return (0, height - 1), (0, width - 1)


def _hull(regions: list[Region]) -> Region:
    """Return the smallest region that contains others."""
    rows, cols = zip(*regions, strict=True)
    return (
        (min(low for low, _ in rows), max(high for _, high in rows)),
        (min(low for low, _ in cols), max(high for _, high in cols)),
    )


def _within(span: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the part of a span of rows or columns that is inside a map."""
    return max(span[0], 0), min(span[1], size - 1)


class Timing:
    """The times and frames of all maps of a graph that the logits need.

    Attributes:
        needed: bool for each map, True if the logits depend on it.
        times: the times of each map's channels.
        frames: the rows and columns by which each map is computed later than its own position.
        regions: the positions at which each map is needed.

    Raises:
        NotCausal: the logits depend on a value that is drawn later.
        UnsupportedOperation: a map cannot be computed in the order of the pixels.
    """

    def __init__(self, graph: Graph, colors: int, levels: int) -> None:
        assert graph.logits is not None
        self.graph, self.logits = graph, graph.logits
        self.needed = _needed(graph)
        self.times: list[Times] = []
        for made in graph.maps:
            own = self._times_of(made) if self.needed[made.number] else np.zeros(0, dtype=np.int64)
            self.times.append(own)
        self._check_causality(colors, levels)
        self.frames: list[Offset] = [(0, 0)] * len(graph.maps)
        self.regions: dict[int, Region] = {}
        self._choose_frames()

    # Times.

    def _times_of(self, made: Map) -> Times:
        op = made.op
        if isinstance(op, Image):
            return np.array([_time(0, 0, color + 1) for color in range(made.channels)])
        if isinstance(op, Given | PerChannel):
            return np.full(made.channels, _ALWAYS)
        if isinstance(op, Pointwise):
            return np.max([self.of_reads(arg.reads) for arg in op.args], axis=0)
        if isinstance(op, Linear):
            return self._linear(op, made.channels)
        return self._recurrence(op, made.channels)

    def of_reads(self, reads: Reads) -> Times:
        """Return the times of what the channels of an operand read."""
        times = np.empty(len(reads), dtype=np.int64)
        for number in np.unique(reads.map).tolist():
            own = reads.map == number
            times[own] = self.times[number][reads.channel[own]]
        return _shifted(times, reads.dr, reads.dc)

    def _linear(self, op: Linear, channels: int) -> Times:
        latest = np.full(channels, _ALWAYS)
        for term in op.terms:
            times = self.of_reads(term.read.reads)
            for value in np.unique(times):
                live = term.live[:, term.used[times == value]]
                reads = np.any(live, axis=1)  # [out, rows, columns]
                for r, dr in enumerate(term.rows):
                    for c, dc in enumerate(term.cols):
                        moved = int(_shifted(value, dr, dc))
                        latest[reads[:, r, c] & (latest < moved)] = moved
        return latest

    def _recurrence(self, op: Recurrence, channels: int) -> Times:
        gates = self.of_reads(op.gates.reads).reshape(len(op.states), 4, channels).max(1)
        if op.kind == "row_lstm":
            return np.maximum(gates[0], _ROW_ABOVE)
        left = np.maximum(gates[0], _time(0, -1, 1))
        return np.maximum(left, np.maximum(_shifted(gates[1], -1, 0), _ROW_ABOVE))

    # Causality.

    def _check_causality(self, colors: int, levels: int) -> None:
        times = self.of_reads(self.logits).reshape(colors, levels)
        for color in range(colors):
            late = times[color] > _time(0, 0, color)
            if late.any():
                k = color * levels + int(late.argmax())
                raise NotCausal(self._describe(color, k))

    def _describe(self, color: int, k: int) -> str:
        """Return which value a logit reads, and through which operations."""
        reads = self.logits
        number, channel = int(reads.map[k]), int(reads.channel[k])
        row, col, path = int(reads.dr[k]), int(reads.dc[k]), list[str]()
        while not isinstance(self.graph.maps[number].op, Image):
            step = self._latest(number, channel)
            name = self.graph.where(number)
            if not path or path[-1] != name:
                path.append(name)
            number, channel = step[0], step[1]
            row, col = row + step[2], col + step[3]
        where = _place(row, col, channel)
        shown = path if len(path) <= 6 else [*path[:3], "...", *path[-3:]]
        return f"the logits of color {color} read {where}: through {', '.join(shown)}"

    def _latest(self, number: int, channel: int) -> tuple[int, int, int, int]:
        """Return the map, channel and offset of the read that determines a channel's time."""
        made = self.graph.maps[number]
        best: tuple[int, tuple[int, int, int, int]] | None = None
        for operand, dr, dc, chosen in self.taps(made, channel):
            reads = operand.reads[chosen]
            times = _shifted(self.of_reads(reads), dr, dc)
            at = int(times.argmax())
            if best is None or times[at] > best[0]:
                read = (
                    int(reads.map[at]),
                    int(reads.channel[at]),
                    int(reads.dr[at]) + dr,
                    int(reads.dc[at]) + dc,
                )
                best = int(times[at]), read
        assert best is not None
        return best[1]

    def taps(
        self, made: Map, channel: int | None = None
    ) -> list[tuple[Operand, int, int, NDArray[np.int64]]]:
        """Return (operand, row, column, channels of the operand) for all reads of a map.

        Args:
            channel: the output channel that reads; None for all.
        """
        op = made.op
        if isinstance(op, Linear):
            found = []
            for term in op.terms:
                live = term.live if channel is None else term.live[channel : channel + 1]
                for r, dr in enumerate(term.rows):
                    for c, dc in enumerate(term.cols):
                        chosen = np.flatnonzero(live[:, :, r, c].any(0))
                        if len(chosen):
                            found.append((term.operand, dr, dc, chosen))
            return found
        if isinstance(op, Recurrence):
            size = len(op.gates.reads)
            every = np.arange(size)
            chosen = every if channel is None else every[channel % made.channels :: made.channels]
            return [(op.gates, 0, 0, chosen)]
        every = np.arange(made.channels)
        return [
            (operand, 0, 0, every if channel is None else every[channel : channel + 1])
            for operand in made.operands
        ]

    # Frames.

    def _choose_frames(self) -> None:
        """Choose the frame of each map, readers first, and find where it is needed."""
        height, width = self.graph.image_size
        readers: list[list[_Reader]] = [[] for _ in self.graph.maps]
        self._add_reads(readers, Operand(self.logits, (height, width)), (0, 0), _all(height, width))
        for made in reversed(self.graph.maps):
            own = readers[made.number]
            if not self.needed[made.number] or not own:
                continue
            is_recurrence = isinstance(made.op, Recurrence)
            region = _all(*made.size) if is_recurrence else _hull([each.region for each in own])
            self.regions[made.number] = region
            if isinstance(made.op, PerChannel):
                continue
            self.frames[made.number] = frame = self._frame(made, own)
            for operand, dr, dc, chosen in self.taps(made):
                read = Operand(operand.reads[chosen], operand.size)
                (top, bottom), (left, right) = region
                seen = (top + dr, bottom + dr), (left + dc, right + dc)
                self._add_reads(readers, read, (dr - frame[0], dc - frame[1]), seen)

    def _add_reads(
        self, readers: list[list[_Reader]], operand: Operand, offset: Offset, region: Region
    ) -> None:
        """Add a reader to each map that an operand shows, unless it reads only beyond the map."""
        reads = operand.reads
        rows, cols = (_within(span, size) for span, size in zip(region, operand.size, strict=True))
        for number, dr, dc in reads.distinct():
            size = self.graph.maps[number].size
            seen = (
                _within((rows[0] + dr, rows[1] + dr), size[0]),
                _within((cols[0] + dc, cols[1] + dc), size[1]),
            )
            if any(low > high for low, high in (rows, cols, *seen)):
                continue
            own = (reads.map == number) & (reads.dr == dr) & (reads.dc == dc)
            readers[number].append(
                _Reader(reads.channel[own], dr + offset[0], dc + offset[1], seen)
            )

    def is_above(self, number: int) -> bool:
        """Return True if a map needs only rows above those in which it is computed."""
        row, col = self.frames[number]
        times = _shifted(self.times[number], -row, -col)
        return bool(((times < 0) | (~_by_pixel(times) & (times <= _ROW_ABOVE))).all())

    def _frame(self, made: Map, readers: list[_Reader]) -> Offset:
        if isinstance(made.op, Image | Recurrence):
            candidates = [(0, 0)]
        else:
            candidates = self._candidates(made, readers)
        (top, bottom), (left, _) = self.regions[made.number]
        for row, col in candidates:
            inside = top + row >= 0 and bottom + row < self.graph.image_size[0] and left + col >= 0
            if inside and all(self._fits(made.number, (row, col), each) for each in readers):
                return row, col
        entry = self.graph.entries[made.entry]
        raise entry.unsupported(
            "its features would have to be computed outside the image, or before all of them are "
            "known"
        )

    def _candidates(self, made: Map, readers: list[_Reader]) -> list[Offset]:
        """Return the frames to try: the map's own position first, then later and earlier ones."""
        read = np.unique(np.concatenate([each.channels for each in readers]))
        latest = self.times[made.number][read].max()
        row = int(latest >> _ROW)
        found = [(0, 0)]
        if _by_pixel(latest):
            col = int((latest >> _COLORS) & ((1 << _COLS) - 1)) - _MIDDLE
            found += [(row + 1, 0), (row, col + 1), (row, col)]
        elif latest != _ALWAYS:
            found += [(row, 0)]
        last_row, last_col = max(each.dr for each in readers), max(each.dc for each in readers)
        return [*found, (-last_row, 0), (-last_row, -last_col)]

    def _fits(self, number: int, frame: Offset, reader: _Reader) -> bool:
        """Return True if channels are known at their frame, and the reader comes later."""
        times = _shifted(self.times[number][reader.channels], -frame[0], -frame[1])
        by_pixel = _by_pixel(times) & (times >= 0)
        rows = times >> _ROW
        known = (rows < 0) | ((rows == 0) & (~by_pixel | (times < _time(0, 1, 0))))
        dr, dc = reader.dr + frame[0], reader.dc + frame[1]
        later = dr < 0 or (dr == 0 and (dc <= 0 or not by_pixel.any()))
        return later and bool(known.all())


def _place(row: int, col: int, color: int) -> str:
    """Return where a value is that a pixel reads."""
    if (row, col) == (0, 0):
        return f"color {color} of their own pixel"
    return f"color {color} of the pixel at row {row:+d}, column {col:+d}"


def _needed(graph: Graph) -> list[bool]:
    """Return for each map whether the logits depend on it."""
    assert graph.logits is not None
    needed = [False] * len(graph.maps)
    waiting = [0, *np.unique(graph.logits.map).tolist()]  # the image, and what the logits read
    while waiting:
        number = waiting.pop()
        if not needed[number]:
            needed[number] = True
            for operand in graph.maps[number].operands:
                waiting += np.unique(operand.reads.map).tolist()
    return needed
