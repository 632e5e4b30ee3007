"""Which block of a cluster runs which part of which task, and where they have to wait.

As csrc/cpu/thread_schedule.h does for threads: a chain of small tasks is left to the leader, which
needs no barrier; a large one is split, or given to the member that has least to do.
"""

from dataclasses import dataclass

from pixelsr.sampling.plan import Product, Span

from ..fusion import Task, overlap
from .memory_layout import read, written
from .mma_layout import input_blocks, outputs_of

WARPS = 8
_WORTH_SHARING = 48
"""Fragments of weights that take about as long as two barriers."""


@dataclass(frozen=True)
class Part:
    """Some tiles of 16 outputs of a task."""

    task: Task
    first: int
    tiles: int


Work = Part | None
"""None is a barrier of all members."""


def share(tasks: list[Task], members: int) -> list[list[Work]]:
    """What each member does, one list for each."""
    if members == 1 or all(_fragments(task) < _WORTH_SHARING for task in tasks):
        return [[_whole(task) for task in tasks], *([] for _ in range(members - 1))]
    return _Share(members).run(tasks)


class _Share:
    def __init__(self, members: int) -> None:
        self.lists: list[list[Work]] = [[] for _ in range(members)]
        self.load = [0] * members
        self.open: list[tuple[Span, bool, int | None]] = []  # span, written?, one member or all

    def run(self, tasks: list[Task]) -> list[list[Work]]:
        self._wait()  # for what the leader has written before
        for task in tasks:
            self._place(task)
        self._wait()
        return self.lists

    def _place(self, task: Task) -> None:
        whole = _whole(task)
        member: int | None = 0
        if _fragments(task) >= _WORTH_SHARING:
            member = None if whole.tiles > WARPS else self.load.index(min(self.load))
        if self._conflicts(task, member):
            self._wait()
        self.open += [(span, False, member) for span in read(task)]
        self.open += [(span, True, member) for span in written(task)]
        if member is not None:
            self.lists[member].append(whole)
            self.load[member] += _fragments(task)
            return
        count = len(self.lists)
        for number, work in enumerate(self.lists):
            first, end = (whole.tiles * k // count for k in (number, number + 1))
            if first < end:
                work.append(Part(task, first, end - first))

    def _conflicts(self, task: Task, member: int | None) -> bool:
        spans = [(span, False) for span in read(task)] + [(span, True) for span in written(task)]
        return any(
            (member is None or member != other) and (writes or wrote) and overlap(span, before)
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
