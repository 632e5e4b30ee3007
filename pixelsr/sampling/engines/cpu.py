"""The plan executed in C++: one operator draws whole pictures, for the whole batch."""

import dataclasses
import itertools

import torch
from torch import Tensor

from ... import ops
from ..drawing import Drawing
from ..memory import available_memory
from ..noise import signed
from ..plan import Plan, Schedule
from ..request import Request
from .base import Engine, Positions
from .features import Features, feature_dtype
from .program import Program, program, why_not_written
from .ring import Ring, ring_shape

operators = torch.ops.pixelsr
_sessions = itertools.count()
_ROW_BEGINS = -1  # the colour of a cursor at the beginning of a row


class CpuEngine(Engine):
    """The buffers in one piece of memory, the program, and the place that it has come to."""

    def __init__(self, plan: Plan, request: Request) -> None:
        self.plan, self.request = plan, request
        dtype = feature_dtype(request)
        self.program = program(
            plan, request.model, request.weights_number, dtype, _weight_dtype(request)
        )
        check_memory(self.program, request.samples)
        self.storage = torch.zeros(self.program.size * request.samples, dtype=dtype)
        self.features = Features(plan, request, self._rings())
        self.images = self.features.images
        self.schedule = Schedule(plan, request.unknown)
        self.values = self._packed_values()
        self.session = next(_sessions)
        self.cursor = torch.tensor([self.schedule.first_row, 0, _ROW_BEGINS])
        if self.schedule.first_row < self.schedule.leading_rows <= self.schedule.last_row:
            self._prefill(self.schedule.leading_rows - self.schedule.first_row)

    @staticmethod
    def why_not_here(device: torch.device) -> str | None:
        if ops.WHY_NOT_COMPILED:
            return ops.WHY_NOT_COMPILED
        return None if device.type == "cpu" else f"the model is on {device}, expected cpu"

    @staticmethod
    def why_not(plan: Plan, request: Request) -> str | None:
        return _why_not_parameters(request) or why_not_written(plan)

    def draw(self, drawing: Drawing) -> None:
        rows = self.plan.image_size[0] if drawing.advance is None else 1
        while not self._is_done():
            drawing.begin_row(self.request, int(self.cursor[0]))
            self._run(rows, drawing)

    def positions(self) -> Positions:
        self._run(self.plan.image_size[0])
        while not self._is_done():
            row, col, colour = self.cursor.tolist()
            span = self.plan.logits[colour]
            logits = self.features.rings[span.buffer].span(row, col, 1, span.first, span.count)
            drawn = yield (row, col, colour), logits
            value = self.images[:, colour, row, col]
            known = self.request.known_mask[:, colour, row, col]
            value.copy_(torch.where(known, value, drawn))
            self._run(self.plan.image_size[0])

    def _prefill(self, rows: int) -> None:
        """Run the leading rows, which are known; once for the samples of one input."""
        inputs = len(self.values)
        if len(self.request.known) > 1 or self.request.samples == inputs:
            self._run(rows)
            return
        once = CpuEngine(self.plan, dataclasses.replace(self.request, samples=inputs))
        for name, ring in self.features.rings.items():
            ring.copy_samples(once.features.rings[name])
        self.cursor = once.cursor

    def _is_done(self) -> bool:
        return int(self.cursor[0]) > self.schedule.last_row

    def _run(self, rows: int, drawing: Drawing | None = None, threads: int | None = None) -> None:
        """Some rows, drawing; or without a drawing, up to the logits of the next unknown value."""
        operators.run_plan_(
            self.program.code,
            self.program.weights,
            self.program.constants,
            self.storage,
            self.values,
            self.images,
            self.request.known_mask.contiguous(),
            self.schedule.unknown,
            self.schedule.last_and_stop,
            self.cursor,
            signed(drawing.seed) if drawing else 0,
            self.request.first_index,
            drawing.temperature if drawing else 0.0,
            drawing is not None,
            self.schedule.cols.start,
            len(self.schedule.cols),
            rows,
            torch.get_num_threads() if threads is None else threads,
            self.session,
        )

    def _rings(self) -> dict[str, Ring]:
        samples, width = self.request.samples, self.plan.image_size[1]
        rings = {}
        for name, buffer in self.plan.buffers.items():
            shape = ring_shape(buffer, width, samples)
            first = self.program.offsets[name] * samples
            piece = self.storage[first : first + torch.Size(shape).numel()]
            rings[name] = Ring(buffer, width, piece.view(shape))
        return rings

    def _packed_values(self) -> Tensor:
        """The image stage's values, all of an input in a row: ``[M, H, W, channels]`` each."""
        height, width = self.plan.image_size
        packed = [
            value.movedim(1, 0).expand(-1, height, width, -1).flatten(1).to(self.storage.dtype)
            for value in self.features.values.values()
        ]
        inputs = 1 if self.request.low_res is None else len(self.request.low_res)
        packed = [value.expand(inputs, -1) for value in packed]
        return torch.cat(packed, 1) if packed else self.storage.new_zeros(inputs, 0)


def _weight_dtype(request: Request) -> torch.dtype:
    """16-bit weights are kept in 16 bits; those of a float64 model, however rounded, are not."""
    own = next(request.model.parameters()).dtype
    return request.weights if request.weights and own == torch.float32 else own


def check_memory(program: Program, samples: int) -> None:
    """Refuse a batch whose buffers would not fit, before anything is allocated."""
    needed = program.size * samples * program.dtype.itemsize
    free = available_memory()
    if free is not None and needed > free:
        raise ValueError(
            f"{samples} pictures at once need {needed / 2**30:.3g} GiB of memory for features, "
            f"and {free / 2**30:.3g} GiB are free; max_batch splits the work"
        )


def _why_not_parameters(request: Request) -> str | None:
    first, *others = request.model.named_parameters()
    for name, parameter in others:
        if parameter.dtype != first[1].dtype:
            return (
                f"the parameters are of mixed dtype, {first[1].dtype} and {parameter.dtype} "
                f"({name}), expected one"
            )
        if parameter.device != first[1].device:
            return f"the parameters are on {first[1].device} and {parameter.device} ({name})"
    return None
