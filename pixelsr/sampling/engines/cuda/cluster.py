"""The distribution of tasks over the blocks of a cluster, with barriers where they must wait.

It resembles csrc/cpu/thread_schedule.h: the first block runs a chain of small tasks, which needs no
barrier. A large task is split, or given to the block that has the least to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pixelsr.sampling.plan import Product, Span

from ..fusion import Task
from .memory_layout import read, written
from .mma_layout import input_blocks, outputs_of

WARPS = 8
_WORTH_SHARING = 48
"""The number of weight fragments that take about as long as two barriers."""


@dataclass(frozen=True)
class Part:
    """A range of a task's tiles of 16 outputs."""

    task: Task
    first: int
    tiles: int


Work = Part | None
"""A part of a task, or None for a barrier of all blocks of the cluster."""


def share(tasks: Sequence[Task], cluster_size: int) -> list[list[Work]]:
    """Return the work list of each block of the cluster."""
    if cluster_size == 1 or all(_fragments(task) < _WORTH_SHARING for task in tasks):
        return [[_whole(task) for task in tasks], *([] for _ in range(cluster_size - 1))]
    return _Share(cluster_size).run(tasks)


class _Share:
    def __init__(self, cluster_size: int) -> None:
        self.lists: list[list[Work]] = [[] for _ in range(cluster_size)]
        self.load = [0] * cluster_size
        self.open: list[tuple[Span, bool, int | None]] = []  # (span, written, rank or None for all)

    def run(self, tasks: Sequence[Task]) -> list[list[Work]]:
        self._wait()  # for what the first block has written before
        for task in tasks:
            self._place(task)
        self._wait()
        return self.lists

    def _place(self, task: Task) -> None:
        whole = _whole(task)
        rank: int | None = 0
        if _fragments(task) >= _WORTH_SHARING:
            rank = None if whole.tiles > WARPS else self.load.index(min(self.load))
        if self._conflicts(task, rank):
            self._wait()
        self.open += [(span, False, rank) for span in read(task)]
        self.open += [(span, True, rank) for span in written(task)]
        if rank is not None:
            self.lists[rank].append(whole)
            self.load[rank] += _fragments(task)
            return
        count = len(self.lists)
        for number, work in enumerate(self.lists):
            first, end = (whole.tiles * k // count for k in (number, number + 1))
            if first < end:
                work.append(Part(task, first, end - first))

    def _conflicts(self, task: Task, rank: int | None) -> bool:
        spans = [(span, False) for span in read(task)] + [(span, True) for span in written(task)]
        return any(
            (rank is None or rank != other) and (writes or wrote) and span.overlaps(before)
            for span, writes in spans
            for before, wrote, other in self.open
        )

    def _wait(self) -> None:
        for work in self.lists:
            work.append(None)
        self.load = [0] * len(self.lists)
        self.open = []


def _whole(task: Task) -> Part:
    return Part(task, 0, len(outputs_of(task)) // 16 if isinstance(task.step, Product) else 0)


def _fragments(task: Task) -> int:
    step = task.step
    if not isinstance(step, Product):
        return 0
    return len(outputs_of(task)) // 16 * input_blocks(step) * len(step.cols)
