"""The CPU engine: one C++ operator executes the plan and draws whole images of a batch."""

import itertools
import weakref

import torch
from torch import Tensor

from pixelsr import ops
from pixelsr.sampling.noise import signed
from pixelsr.sampling.plan import Plan
from pixelsr.sampling.request import Request
from pixelsr.sampling.sampler import Sampler, no_faults
from pixelsr.utils.system import check_memory, usable_processors

from ..base import PlanEngine, Positions
from ..buffers import (
    Ring,
    begin,
    conditioning_sizes,
    feature_dtype,
    packed_conditioning,
    ring_shape,
)
from ..packing import parameters_unsupported_reason
from .program import plan_unsupported_reason, program

operators = torch.ops.pixelsr
_sessions = itertools.count()
_ROW_BEGINS = -1  # the color of a cursor at the beginning of a row
_NO_LOGITS = torch.empty(0, dtype=torch.float32, device="cpu")
_MACS_AT_ONCE = 2 * 10**9
"""Multiply-adds in one call, some tenths of a second: Python can be interrupted between calls."""


class CpuEngine(PlanEngine):
    """The engine that keeps all buffers in one tensor, and a cursor to the current position.

    Args:
        conditioning: the conditioning features if they have been computed already, as
            `packed_conditioning` returns them.
    """

    name = "cpu"

    def __init__(self, plan: Plan, request: Request, conditioning: Tensor | None = None) -> None:
        super().__init__(plan, request)
        self.dtype = feature_dtype(request)
        self.program = program(plan, request)
        self.code = self.program.code_of(self.schedule)
        check_memory(
            self._bytes_needed(), request.samples, "max_batch of pixelsr.sample splits the work"
        )
        self.storage = torch.zeros(self._storage_size(), dtype=self.dtype, device="cpu")
        self.rings = self._rings()
        begin(plan, request, self.rings)
        self.conditioning = (
            packed_conditioning(plan, request) if conditioning is None else conditioning
        )
        self.processors = usable_processors()
        self.session = next(_sessions)
        weakref.finalize(self, operators.forget_session, self.session).atexit = False
        self.cursor = torch.tensor([self.schedule.first_row, 0, _ROW_BEGINS], device="cpu")
        self.faults = no_faults(request)
        if self.leading_rows:
            self._run_leading_rows()

    @staticmethod
    def device_unsupported_reason(device: torch.device) -> str | None:
        if ops.WHY_NOT_COMPILED:
            return ops.WHY_NOT_COMPILED
        return None if device.type == "cpu" else f"the model is on {device}, expected cpu"

    @staticmethod
    def unsupported_reason(plan: Plan, request: Request) -> str | None:
        return parameters_unsupported_reason(request) or plan_unsupported_reason(plan)

    def draw(self, sampler: Sampler) -> None:
        while not self._is_done():
            sampler.begin_row(self.request, int(self.cursor[0]))
            self._run(self.plan.image_size[0], sampler)
            sampler.check_faults(self.request, self.faults)

    def positions(self) -> Positions:
        while self._reaches_logits():
            row, col, color = self.cursor.tolist()
            span = self.plan.logits[color]
            logits = self.rings[span.buffer].span(row, col, 1, span.first, span.count)
            drawn = yield (row, col, color), logits
            self.write((row, col, color), drawn)

    def record(self, images: Tensor) -> Tensor:
        self.images.copy_(images)
        shape = (*images.shape, self.request.levels)
        logits = torch.empty(shape, dtype=self.dtype, device="cpu")
        while not self._is_done():
            self._run(self.plan.image_size[0], logits=logits)
        return logits.permute(0, 4, 1, 2, 3)

    def _reaches_logits(self) -> bool:
        """Run up to the logits of the next unknown value; return False if there is none."""
        while not self._is_done():
            self._run(self.plan.image_size[0])
            if int(self.cursor[2]) != _ROW_BEGINS:
                return True
        return False

    def _is_done(self) -> bool:
        return int(self.cursor[0]) > self.schedule.last_row

    def _run(
        self,
        end: int,
        sampler: Sampler | None = None,
        threads: int | None = None,
        logits: Tensor = _NO_LOGITS,
    ) -> None:
        """Run some rows above row `end`.

        With a sampler, draw the values. With `logits`, record the logits of the values in
        `images`. With neither, stop at the logits of the next unknown value.

        The default number of threads is at most the number of processors, because the threads of a
        team wait for each other.
        """
        work = self.plan.macs * self.request.samples // self.plan.image_size[0]  # of a row
        operators.run_plan_(
            self.code,
            self.program.weights,
            self.program.constants,
            self.storage,
            self.conditioning,
            self.images,
            logits,
            self.request.known_mask,
            self.schedule.unknown,
            self.schedule.last_and_stop,
            self.cursor,
            self.faults,
            signed(sampler.seed) if sampler else 0,
            self.request.first_index,
            sampler.temperature if sampler else 0.0,
            sampler is not None,
            self.schedule.cols.start,
            len(self.schedule.cols),
            min(end - int(self.cursor[0]), max(1, _MACS_AT_ONCE // max(1, work))),
            min(torch.get_num_threads(), self.processors) if threads is None else threads,
            self.session,
        )

    def _run_leading_rows(self) -> None:
        """Run the known leading rows, only once for all samples of an input that share them."""
        if not self.shares_leading_rows:
            while int(self.cursor[0]) < self.leading_rows.stop:
                self._run(self.leading_rows.stop)
            return
        once = CpuEngine(self.plan, self.one_sample_per_input(), self.conditioning)
        for name, ring in self.rings.items():
            ring.copy_samples(once.rings[name])
        self.cursor = once.cursor

    # Memory.

    def _noise_size(self) -> int:
        """Return the number of bytes of noise for one row of one sample."""
        return len(self.schedule.cols) * self.plan.colors * self.plan.levels * 4

    def _storage_size(self) -> int:
        """Return the number of elements for the buffers and, behind them, the noise."""
        samples = self.request.samples
        return self.program.size * samples - -self._noise_size() * samples // self.dtype.itemsize

    def _bytes_needed(self) -> int:
        """Return the number of bytes that this engine allocates.

        They hold the storage, the images, the offsets of the positions in a row of each buffer,
        and the conditioning features. Samples that share leading rows need the same again for one
        sample of each input.
        """
        plan, size = self.plan, self.dtype.itemsize
        pixels = plan.image_size[0] * plan.image_size[1]
        cols = len(self.schedule.cols)
        rows = sum(cols + padding for padding in range(plan.padding + 1))
        positions = 8 * (1 + rows) * len(plan.buffers)
        sample = self.program.size * size + self._noise_size() + plan.colors * pixels + positions
        samples = self.request.samples + self.inputs * self.shares_leading_rows
        return sample * samples + sum(conditioning_sizes(plan)) * self.inputs * size

    def _rings(self) -> dict[str, Ring]:
        samples, width = self.request.samples, self.plan.image_size[1]
        rings = {}
        for name, buffer in self.plan.buffers.items():
            shape = ring_shape(buffer, width, samples)
            first = self.program.offsets[name] * samples
            piece = self.storage[first : first + torch.Size(shape).numel()]
            rings[name] = Ring(buffer, width, piece.view(shape))
        return rings
