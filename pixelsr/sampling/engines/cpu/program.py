"""The program of the C++ engine: a plan as a list of integers, and parameters in panels.

csrc/cpu/program.h reads what `_Writer` writes, in the same order. csrc/common/opcodes.h has the
numbers of the opcodes, and csrc/cpu/simd/kernels.h the width of a panel.
"""

import itertools
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr.sampling.binding import Binding, bind
from pixelsr.sampling.plan import Plan, Pointwise, Product, Schedule, Span
from pixelsr.sampling.plan.ir import Placed, Scan
from pixelsr.sampling.request import Request
from pixelsr.utils.weak_cache import weak_cache

from ..buffers import feature_dtype
from ..packing import (
    OPCODES,
    PANEL,
    Packer,
    bias_of,
    block_of,
    offsets_of,
    padded_width,
    pointwise_unsupported_reason,
    postfix,
    segments_of,
    weight_dtype,
)
from ..program_cache import ProgramCache

MAX_SEGMENTS, MAX_PADDING = 64, 1024
_CPU = torch.device("cpu")
_PRODUCT, _POINTWISE = 0, 1
_NO_SCAN = 0


@dataclass(frozen=True)
class Program:
    """A plan packed for one weight dtype.

    Attributes:
        code: int64, the plan.
        weights: the weights of products at single pixels, packed in panels. They are read again
            for every pixel, so half the bytes may take half the time.
        constants: all other constants, in the dtype of the features: the weights of products for
            whole rows, the biases, padded to whole panels, and the constants of pointwise steps.
        offsets: the offset of each buffer in the storage of one sample, in elements.
        size: the size of that storage, in elements.
        first_rows: the index in the code of each step's first row.
    """

    code: Tensor
    weights: Tensor
    constants: Tensor
    offsets: dict[str, int]
    size: int
    first_rows: Tensor

    def code_of(self, schedule: Schedule) -> Tensor:
        """Return the code with the first row of each step taken from the schedule."""
        code = self.code.clone()
        code[self.first_rows] = torch.tensor(schedule.first_rows, dtype=torch.int64, device="cpu")
        return code


_programs: ProgramCache[Program] = ProgramCache()


def program(plan: Plan, request: Request) -> Program:
    """Return the program of a plan; it is packed again only when a weight has changed."""
    weights = weight_dtype(request)
    return _programs.get(
        plan,
        request,
        weights,
        lambda: write_program(plan, bind(plan, request), feature_dtype(request), weights),
    )


def write_program(
    plan: Plan, binding: Binding, dtype: torch.dtype, weights: torch.dtype
) -> Program:
    """Return the program of a plan without caching it.

    Args:
        dtype: the dtype of the features, float32 or float64.
        weights: the dtype of the packed weights.
    """
    return _Writer(plan, binding, dtype, weights).run()


@weak_cache
def plan_unsupported_reason(plan: Plan) -> str | None:
    """Return the reason why a plan has no program, or None if it has one."""
    if plan.padding > MAX_PADDING:
        return f"its features are padded by {plan.padding} columns, more than {MAX_PADDING}"
    for placed in plan.placed:
        step = placed.step
        if isinstance(step, Product):
            if len(segments_of(plan, step)) > MAX_SEGMENTS:
                return f"a product into {step.out.buffer} reads more than {MAX_SEGMENTS} segments"
            continue
        if not isinstance(step, Pointwise):
            return f"it does not know the step {type(step).__name__}"
        if reason := pointwise_unsupported_reason(step):
            return reason
    return None


@dataclass
class _Writer:
    plan: Plan
    binding: Binding
    dtype: torch.dtype
    weight_dtype: torch.dtype
    code: list[int] = field(default_factory=list)
    weights: Packer = field(default_factory=lambda: Packer(PANEL))
    constants: Packer = field(default_factory=lambda: Packer(PANEL))
    first_rows: list[int] = field(default_factory=list)

    def run(self) -> Program:
        plan = self.plan
        numbers = {name: number for number, name in enumerate(plan.buffers)}
        self.numbers = numbers
        offsets, size = offsets_of(plan)
        self.code += [*plan.image_size, plan.colors, plan.levels, numbers[plan.image], size]
        self._list([self._span(span) for span in plan.logits])
        self._list(
            [
                [offsets[b.name], b.rows, b.left, padded_width(plan, b), b.channels, b.padding]
                for b in plan.buffers.values()
            ]
        )
        self._list([[numbers[name]] for name in plan.conditioning])
        self.code.append(len(plan.placed))
        for placed in plan.placed:
            self._step(placed)
        moments = plan.moments(range(len(plan.placed)), plan.placed.__getitem__)
        lists = [moments.row, moments.known_row, *moments.of_pixels]
        self._list([[len(steps), *steps] for steps in lists])
        return Program(
            torch.tensor(self.code, device="cpu"),
            self.weights.joined(self.weight_dtype, _CPU),
            self.constants.joined(self.dtype, _CPU),
            offsets,
            size,
            torch.tensor(self.first_rows, dtype=torch.int64, device="cpu"),
        )

    def _list(self, items: list[list[int]]) -> None:
        self.code += [len(items), *itertools.chain(*items)]

    def _span(self, span: Span) -> list[int]:
        return [self.numbers[span.buffer], span.first, span.count, span.dr, span.dc]

    def _step(self, placed: Placed) -> None:
        step = placed.step
        kind = _PRODUCT if isinstance(step, Product) else _POINTWISE
        scan = placed.scan or Scan(_NO_SCAN, False)
        self.code += [kind, placed.when == "row", scan.number, scan.reverse]
        self.first_rows.append(len(self.code))
        self.code += [placed.first_row, placed.padding]
        self.code += self._span(step.out)
        if isinstance(step, Product):
            self._product(step, placed.when)
        else:
            self._pointwise(step)

    def _product(self, step: Product, when: str) -> None:
        self._list([self._span(span) for span in (step.src, step.add) if span])
        segments = segments_of(self.plan, step)
        of_rows = when == "row"
        packed = self._weight(
            step, segments, in_words=not of_rows and self.weight_dtype.itemsize == 2
        )
        self.code += [step.overwrite, step.src is not None, step.add is not None]
        self.code += [
            (self.constants if of_rows else self.weights).append(packed),
            self.constants.append(self._bias(step)) if step.overwrite else 0,
            sum(length + length % 2 for *_, length in segments),
        ]
        self._list(segments)

    def _weight(self, step: Product, segments: list[list[int]], *, in_words: bool) -> Tensor:
        """Return a flat ``[panel, pair, 2, 16]``, or if `in_words` ``[panel, pair, 16, 2]``."""
        if step.weight is None:
            return torch.empty(0, dtype=self.dtype, device="cpu")
        weight = block_of(self.binding, step.weight)
        inputs = weight.permute(2, 3, 1, 0).flatten(0, 2)  # [K, out]
        lengths = [length for *_, length in segments]
        parts = [F.pad(p, (0, 0, 0, len(p) % 2)) for p in inputs.split(lengths)]
        padded = F.pad(torch.cat(parts), (0, -step.out.count % PANEL))
        pairs = padded.unflatten(1, (-1, PANEL)).unflatten(0, (-1, 2)).permute(2, 0, 1, 3)
        return (pairs.transpose(2, 3) if in_words else pairs).flatten()

    def _bias(self, step: Product) -> Tensor:
        bias = bias_of(self.binding, step, self.dtype)
        return F.pad(bias, (0, -step.out.count % PANEL))

    def _pointwise(self, step: Pointwise) -> None:
        self._list([self._span(span) for span in step.args])
        code = []
        for opcode, operand in postfix(step.expression):
            if opcode == "const":
                operand = self.constants.append(
                    torch.tensor([operand], dtype=self.dtype, device="cpu")
                )
            code.append([OPCODES[opcode], int(operand)])
        self._list(code)
