"""The memory layout of a tile's features: rings in global memory, windows in shared memory.

csrc/cuda/program.h describes the same layout. Features are cut into blocks of 16 channels. If
products read them, they are ``[row][block][column][samples][16]`` in the dtype of the operands;
otherwise they are ``[row][block][column][16][samples]`` in float32.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pixelsr.sampling.plan import Buffer, Plan, Product, Span

from ..fusion import Task, tasks

UNIT, BLOCK, MOST_TURNS = 16, 16, 32
_ABSENT, _RING, _WINDOW = range(3)
NOWHERE = [_ABSENT] + [0] * 9


@dataclass(frozen=True)
class Cut:
    """The way in which work is cut into tiles for a GPU.

    Attributes:
        operand: the dtype that products multiply.
        eights: the number of samples of a tile, divided by 8.
        cluster_size: the number of blocks that draw a tile together.
        shared: the bytes of shared memory of a block.
    """

    operand: torch.dtype
    eights: int
    cluster_size: int
    shared: int

    @property
    def samples(self) -> int:
        return 8 * self.eights


@dataclass(frozen=True)
class Transfer:
    """A range of channel blocks that is copied between a window and its ring at each pixel."""

    buffer: str
    first_block: int
    blocks: int


class Tiles:
    """The layout of a plan's buffers for one cut."""

    def __init__(self, plan: Plan, cut: Cut) -> None:
        self.plan, self.cut = plan, cut
        self.tasks = tasks(plan)
        products = [task.step for task in self.tasks if isinstance(task.step, Product)]
        self.operands = {product.src.buffer for product in products if product.src}
        self.offsets: dict[str, int] = {}
        end = 0
        for buffer in plan.buffers.values():
            self.offsets[buffer.name] = end
            end += buffer.rows * self.row_size(buffer) // UNIT
        self.units = end
        """The size of all rings of a tile, in units."""
        self.windows: dict[str, int] = {}
        self.windows_units = 0

    # Sizes, in bytes.

    def column_size(self, buffer: Buffer) -> int:
        size = self.cut.operand.itemsize if buffer.name in self.operands else 4
        return self.cut.samples * BLOCK * size

    def block_size(self, buffer: Buffer) -> int:
        return (buffer.left + self.plan.image_size[1] + buffer.right) * self.column_size(buffer)

    def row_size(self, buffer: Buffer) -> int:
        return blocks_of(buffer) * self.block_size(buffer)

    def window_size(self, buffer: Buffer) -> int:
        return blocks_of(buffer) * self.turns(buffer) * self.column_size(buffer)

    def turns(self, buffer: Buffer) -> int:
        """Return the columns of a buffer's window: the current one, and those read to its left."""
        return 1 + max([0, *(away for name, away in self._reaches if name == buffer.name)])

    def samples_of(self, storage: Tensor, tile_bytes: int) -> Iterator[Tensor]:
        """Yield a view ``[tiles, samples, positions, BLOCK]`` of each buffer in the storage."""
        for buffer in self.plan.buffers.values():
            yield self._samples(buffer, storage.view(-1, tile_bytes))

    def _samples(self, buffer: Buffer, tiles: Tensor) -> Tensor:
        first = self.offsets[buffer.name] * UNIT
        own = tiles[:, first : first + buffer.rows * self.row_size(buffer)]
        if buffer.name in self.operands:
            shape = -1, self.cut.samples, BLOCK
            return own.view(self.cut.operand).unflatten(1, shape).transpose(1, 2)
        shape = -1, BLOCK, self.cut.samples
        return own.view(torch.float32).unflatten(1, shape).permute(0, 3, 1, 2)

    def begin(self, storage: Tensor, tile_bytes: int, initial: dict[str, Tensor]) -> None:
        """Store initial states ``[blocks, BLOCK]`` beside the image in the storage."""
        for name, state in initial.items():
            buffer = self.plan.buffers[name]
            assert buffer.initial
            row, cols = buffer.initial.row, buffer.initial.cols
            slots = slice(None) if row is None else slice(row % buffer.rows, row % buffer.rows + 1)
            positions = slice(buffer.left + cols.start, buffer.left + cols.stop)
            samples = self._samples(buffer, storage.view(-1, tile_bytes))
            rows = samples.unflatten(2, (buffer.rows, blocks_of(buffer), -1))
            rows[:, :, slots, :, positions] = state.unsqueeze(1).to(rows.dtype)

    # Windows.

    def place_windows(self, units: int) -> None:
        """Place windows of the buffers that pixels write, as long as there is room for them."""
        for buffer in sorted(self._wanted, key=self._rank):
            size = self.window_size(buffer) // UNIT
            if self.turns(buffer) <= MOST_TURNS and self.windows_units + size <= units:
                self.windows[buffer.name] = self.windows_units
                self.windows_units += size

    def has_operand_windows(self) -> bool:
        """Return True if every buffer that pixels write and products read has a window."""
        return all(b.name in self.windows for b in self._wanted if b.name in self.operands)

    @cached_property
    def _reaches(self) -> list[tuple[str, int]]:
        """Return (buffer, columns to the left) of each read at pixels."""
        steps = [task.step for task in self.tasks if task.placed.when != "row"]
        found = [(span.buffer, -span.dc) for step in steps for span in step.sources if not span.dr]
        products = [step for step in steps if isinstance(step, Product)]
        return found + [(step.src.buffer, -min(step.cols)) for step in products if step.src]

    @cached_property
    def _wanted(self) -> list[Buffer]:
        names = {span.buffer for span in self._written(at_pixels=True)} | {self.plan.image}
        return [buffer for buffer in self.plan.buffers.values() if buffer.name in names]

    def _rank(self, buffer: Buffer) -> tuple[bool, bool, int]:
        is_logits = any(span.buffer == buffer.name for span in self.plan.logits)
        return buffer.name not in self.operands, is_logits, self.window_size(buffer)

    def _written(self, at_pixels: bool) -> list[Span]:
        chosen = [task for task in self.tasks if (task.placed.when != "row") == at_pixels]
        return [span for task in chosen for span in written(task)]

    # Spans.

    def whole(self, name: str) -> Span:
        return Span(name, 0, self.plan.buffers[name].channels)

    def image(self) -> Span:
        return self.whole(self.plan.image)

    # Transfers.

    def fetches(self) -> list[Transfer]:
        """Return the transfers from rings to windows: features that the row stage has computed."""
        of_rows = self._written(at_pixels=False)
        of_rows += [self.whole(name) for name in self.plan.conditioning]
        return self._transfers(of_rows)

    def stores(self) -> list[Transfer]:
        """Return the transfers from windows to rings: features of a pixel that rows below read."""
        steps = [task.step for task in self.tasks]
        above = [span for step in steps for span in step.sources if span.dr < 0]
        products = [step for step in steps if isinstance(step, Product)]
        above += [step.src for step in products if step.src and min(step.rows) < 0]
        of_pixels = [*self._written(at_pixels=True), self.image()]
        shared = [_common(a, b) for a, b in itertools.product(above, of_pixels)]
        return self._transfers(span for span in shared if span)

    def all_windows(self) -> list[Transfer]:
        """Return transfers of all windows, or none if features beside the image are zero."""
        if self.plan.is_local:
            return []
        return self._transfers(self.whole(name) for name in self.windows)

    def _transfers(self, spans: Iterable[Span]) -> list[Transfer]:
        blocks: dict[str, set[int]] = {}
        for span in spans:
            if span.buffer in self.windows:
                last = (span.first + span.count - 1) // BLOCK
                blocks.setdefault(span.buffer, set()).update(range(span.first // BLOCK, last + 1))
        return [
            Transfer(name, first, count)
            for name, chosen in blocks.items()
            for first, count in _runs(sorted(chosen))
        ]

    # Places of spans, as in csrc/cuda/program.h.

    def ring(self, span: Span) -> list[int]:
        buffer = self.plan.buffers[span.buffer]
        operand, offset = span.buffer in self.operands, self.offsets[span.buffer]
        sizes = self.block_size(buffer), buffer.rows, self.row_size(buffer)
        return [_RING, operand, span.first, offset, *sizes, buffer.left, span.dr, span.dc]

    def near(self, span: Span) -> list[int]:
        """Return the place of a span at the current pixel: its window if it has one, or its ring.

        Other rows and columns to the right are only in the ring.
        """
        if span.buffer not in self.windows or span.dr != 0 or span.dc > 0:
            return self.ring(span)
        buffer, offset = self.plan.buffers[span.buffer], self.windows[span.buffer]
        turns = self.turns(buffer)
        block = turns * self.column_size(buffer)
        operand = span.buffer in self.operands
        return [_WINDOW, operand, span.first, offset, block, turns, 0, 0, 0, span.dc]


def blocks_of(buffer: Buffer) -> int:
    return -(-buffer.channels // BLOCK)


def written(task: Task) -> list[Span]:
    """Return the spans that a task writes."""
    return [span for span in (task.keeps and task.step.out, task.result) if span]


def read(task: Task) -> list[Span]:
    """Return the spans that a task reads, including its own `out` if it adds to it."""
    adds = isinstance(task.step, Product) and not task.step.overwrite
    return [*task.step.sources, *([task.step.out] if adds else [])]


def _common(a: Span, b: Span) -> Span | None:
    first, end = max(a.first, b.first), min(a.first + a.count, b.first + b.count)
    return (
        dataclasses.replace(a, first=first, count=end - first)
        if a.buffer == b.buffer and first < end
        else None
    )


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return (first, length) of each run of consecutive numbers."""
    groups = itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in group] for _, group in groups]
    return [(run[0], len(run)) for run in runs]
