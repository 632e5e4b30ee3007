"""The program of the Triton engine: a table of 32-bit integers, and packed parameters.

kernels/sampling/steps.py reads the records that `_Writer` writes, field by field;
kernels/sampling/lists.py reads the lists of records.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr.sampling.binding import Binding, bind
from pixelsr.sampling.plan import Plan, Pointwise, Product, Span, Step
from pixelsr.sampling.plan.ir import Placed
from pixelsr.sampling.request import Request

from ..fusion import Task, tasks
from ..packing import (
    OPCODES,
    Packer,
    bias_of,
    block_of,
    offsets_of,
    padded_width,
    pointwise_unsupported_reason,
    postfix,
    segments_of,
)
from ..program_cache import ProgramCache

LANES = 16
"""Rows of weights are padded to a multiple of this, so that the kernel reads whole vectors."""
MOST_VALUES = 2**31 // 64
"""Elements of a sample's storage: kernels index a tile of up to 64 samples with 32 bits."""
_FUNCTIONS = {"": 0, "relu": 1, "gate": 2}
_PRODUCT, _POINTWISE = 0, 1
_NO_SPAN = [0, 1, 0, 0, 0]


@dataclass(frozen=True)
class RowTask:
    """A task or a scan that is launched for a whole row, with the parameters of its grid.

    Attributes:
        record: the index in the table of the task's record, or of the scan's list.
        placed: the step, or the first step of a scan.
    """

    record: int
    placed: Placed
    is_product: bool
    count: int
    gated: bool


@dataclass(frozen=True)
class TritonProgram:
    """A plan packed for one weight dtype, on the device of the model.

    Attributes:
        table: int32. A (first, count) pair refers to a list of tasks. The list consists of
            (record, wait) pairs; if wait is set, the tasks before must finish first.
        lists: the index in the table of the lists of a pixel: two for each stage, left and color
            0 .. C, without and with the logits-only steps.
        logits: the index of the span of each color's logits.
        image: the index of the span of the image.
        row: the tasks of the row stage.
        known_row: all tasks of a known row.
        padding: the index of the list of each column to the right of the image.
        weights: ``[rows, columns]`` of each product, one after another.
        constants: float32, the biases and the constants of pointwise steps.
        offsets: the offset of each buffer in the storage of one sample, in elements.
        size: the size of that storage, in elements.
    """

    table: Tensor
    lists: int
    logits: int
    image: int
    row: tuple[RowTask, ...]
    known_row: tuple[RowTask, ...]
    padding: tuple[int, ...]
    weights: Tensor
    constants: Tensor
    offsets: dict[str, int]
    size: int


_programs: ProgramCache[TritonProgram] = ProgramCache()


def triton_program(plan: Plan, request: Request, dtype: torch.dtype, block: int) -> TritonProgram:
    """Return the program of a plan; it is packed again only when a weight has changed.

    Args:
        dtype: the dtype of the packed weights.
        block: the number of input channels that the kernel multiplies at once.
    """

    def pack() -> TritonProgram:
        packed = _Writer(plan, bind(plan, request), dtype, block, request.device).run()
        if request.device.type == "cuda":
            torch.cuda.synchronize(request.device)  # the next user may be on another stream
        return packed

    return _programs.get(plan, request, (dtype, request.device), pack)


def plan_unsupported_reason(plan: Plan) -> str | None:
    """Return the reason why a plan has no program, or None if it has one."""
    for placed in plan.placed:
        step = placed.step
        if isinstance(step, Pointwise):
            if reason := pointwise_unsupported_reason(step):
                return reason
        elif not isinstance(step, Product):
            return f"it does not know the step {type(step).__name__}"
    _, size = offsets_of(plan)
    if size > MOST_VALUES:
        return f"the features of one image are {size} numbers, more than {MOST_VALUES}"
    return None


_Written = tuple[Task, int]
"""A task and its record."""


@dataclass
class _Writer:
    plan: Plan
    binding: Binding
    dtype: torch.dtype
    block: int
    device: torch.device
    table: list[int] = field(default_factory=list)
    weights: Packer = field(default_factory=lambda: Packer(LANES))
    constants: Packer = field(default_factory=lambda: Packer(LANES))

    def run(self) -> TritonProgram:
        plan = self.plan
        self.offsets, size = offsets_of(plan)
        every = [(task, self._task(task)) for task in tasks(plan)]
        moments = plan.moments(every, lambda pair: pair[0].placed)
        heads = [self._list(due) for due in moments.of_pixels]
        lists = self._append_to_table([*itertools.chain(*heads)])
        logits = self._append_to_table([v for span in plan.logits for v in self._span(span)])
        image = self._append_to_table(self._span(Span(plan.image, 0, plan.colors)))
        row, known_row = self._row(moments.row), self._row(moments.known_row)
        stages = len(heads) - plan.padding
        return TritonProgram(
            torch.tensor(self.table, dtype=torch.int32, device=self.device),
            lists,
            logits,
            image,
            row,
            known_row,
            tuple(lists + 2 * number for number in range(stages, len(heads))),
            self.weights.joined(self.dtype, self.device),
            self.constants.joined(torch.float32, self.device),
            self.offsets,
            size,
        )

    # The table.

    def _append_to_table(self, numbers: list[int]) -> int:
        place = len(self.table)
        self.table += numbers
        return place

    def _span(self, span: Span | None) -> list[int]:
        """Return [offset of column 0 in row 0, rows, row size, column size, row shift]."""
        if span is None:
            return _NO_SPAN
        buffer = self.plan.buffers[span.buffer]
        col = buffer.left + span.dc
        first = self.offsets[span.buffer] + col * buffer.channels + span.first
        width = padded_width(self.plan, buffer) * buffer.channels
        return [first, buffer.rows, width, buffer.channels, span.dr % buffer.rows]

    def _list(self, due: Sequence[_Written]) -> list[int]:
        """Write a list of tasks, and return its (first, count) pair."""
        waits = _waits([task for task, _ in due])
        entries = [[record, wait] for (_, record), wait in zip(due, waits, strict=True)]
        return [self._append_to_table([*itertools.chain(*entries)]), len(entries)]

    def _row(self, due: Sequence[_Written]) -> tuple[RowTask, ...]:
        """Return a launch for each task and for each scan."""
        launched = []
        for scan, group in itertools.groupby(due, lambda pair: pair[0].placed.scan):
            own = list(group)
            if scan:
                own = [(own[0][0], self._append_to_table(self._list(own)))]
            launched += [_row_task(*pair) for pair in own]
        return tuple(launched)

    def _task(self, task: Task) -> int:
        step = task.step
        if isinstance(step, Product):
            return self._product(task, step)
        codes = self._codes(step)
        spans = [*self._span(step.out), *_NO_SPAN, *_NO_SPAN, *_NO_SPAN]
        return self._append_to_table(
            [_POINTWISE, step.out.count, 0, 0, 0, 0, *spans, *codes, 0, 0, 0]
        )

    def _product(self, task: Task, step: Product) -> int:
        gated = task.function == "gate"
        count = step.out.count // (2 if gated else 1)
        pieces = self._pieces(step)
        padded = count + -count % LANES
        weight = self.weights.append(self._weight(step, count, padded))
        bias = 0
        if step.overwrite:
            bias = self.constants.append(bias_of(self.binding, step, torch.float32))
        spans = [step.out, step.src, step.add, task.result]
        return self._append_to_table(
            [
                _PRODUCT,
                count,
                _FUNCTIONS[task.function],
                step.overwrite,
                task.keeps,
                step.add is not None,
                *itertools.chain(*map(self._span, spans)),
                self._append_to_table([*itertools.chain(*pieces)]),
                len(pieces),
                weight // LANES,
                padded // LANES,
                bias,
            ]
        )

    def _pieces(self, step: Product) -> list[list[int]]:
        """Return [row, offset, length, first weight] of the window in pieces of at most a block."""
        pieces, row = [], 0
        for up, col, length in segments_of(self.plan, step):
            assert step.src is not None
            channels = self.plan.buffers[step.src.buffer].channels
            for first in range(0, length, self.block):
                used = min(self.block, length - first)
                pieces.append([up, col * channels + first, used, row])
                row += used
        return pieces

    def _codes(self, step: Pointwise) -> list[int]:
        """Write the code of a pointwise step, and return its index and length."""
        args = [self._append_to_table(self._span(span)) for span in step.args]
        codes = []
        for opcode, operand in postfix(step.expression):
            if opcode == "arg":
                operand = args[int(operand)]
            if opcode == "const":
                operand = self.constants.append(
                    torch.tensor([operand], dtype=torch.float32, device=self.device)
                )
            codes += [OPCODES[opcode], int(operand)]
        return [self._append_to_table(codes), len(codes) // 2]

    # Parameters.

    def _weight(self, step: Product, count: int, padded: int) -> Tensor:
        """Return ``[window, halves * padded]``, flat; each half of a gate has padded columns."""
        if step.weight is None:
            return torch.empty(0, dtype=self.dtype, device=self.device)
        weight = block_of(self.binding, step.weight)
        inputs = weight.permute(2, 3, 1, 0).flatten(0, 2)  # [K, out]
        return F.pad(inputs.unflatten(1, (-1, count)), (0, padded - count)).flatten()


def _row_task(task: Task, record: int) -> RowTask:
    gated = task.function == "gate"
    count = task.step.out.count // (2 if gated else 1)
    return RowTask(record, task.placed, isinstance(task.step, Product), count, gated)


def _waits(due: list[Task]) -> list[bool]:
    """Return, for each task of a list, True if the tasks before it must finish first."""
    waits: list[bool] = []
    written: list[Span] = []
    read: list[Span] = []
    for number, task in enumerate(due):
        outs = [span for span in (task.step.out, task.result) if span]
        ins = [*_sources_here(task.step), task.step.out]
        wait = (
            number == 0
            or any(a.overlaps(b) for a in written for b in [*outs, *ins])
            or any(a.overlaps(b) for a in read for b in outs)
        )
        if wait:
            written, read = [], []
        written += outs
        read += ins
        waits.append(wait)
    return waits


def _sources_here(step: Step) -> list[Span]:
    """Return the spans read at the step's own pixel, where earlier tasks may have written."""
    spans = [span for span in step.sources if span.dr == span.dc == 0]
    if isinstance(step, Product) and step.src and not (0 in step.rows and 0 in step.cols):
        spans.remove(step.src)
    return spans
