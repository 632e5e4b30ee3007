"""The Triton engine: runs a plan on a GPU, and in Triton's interpreter for tests."""

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pixelsr.ops.registry import HAS_TRITON, interprets
from pixelsr.sampling.noise import signed
from pixelsr.sampling.plan import Plan
from pixelsr.sampling.request import Request
from pixelsr.sampling.sampler import Sampler, no_faults
from pixelsr.utils.system import check_memory

from ..base import PlanEngine, Positions
from ..buffers import Features, Ring, begin, conditioning_sizes, to_device
from ..packing import padded_width, parameters_unsupported_reason, weight_dtype
from .program import RowTask, plan_unsupported_reason, triton_program

if TYPE_CHECKING:  # an import of the package imports no kernels
    from pixelsr.kernels.sampling.rows import Batch

_one_at_a_time = threading.Lock()


class TritonEngine(PlanEngine):
    """The engine that keeps the buffers of each sample in one row of a tensor.

    Each task or scan of a known row, or of the row stage of another row, is one launch. The pixels
    of a row are one launch, and so is each column of padding. The host knows the schedule: it
    waits for the GPU only at the end of a draw, when it reads the record of faulty logits.

    Args:
        conditioning: the conditioning features if they have been computed already.
    """

    name = "triton"

    def __init__(
        self, plan: Plan, request: Request, conditioning: dict[str, Tensor] | None = None
    ) -> None:
        from pixelsr.kernels.sampling.rows import config_of

        super().__init__(plan, request)
        dtype = _packed_dtype(weight_dtype(request), self.device)
        config = config_of(dtype)
        self.program = triton_program(plan, request, dtype, config.inputs)
        check_memory(
            self._bytes_needed(),
            request.samples,
            "max_batch of pixelsr.sample splits the work",
            self.device,
        )
        shape = request.samples, self.program.size
        self.storage = torch.zeros(shape, dtype=torch.float32, device=self.device)
        self.features = Features(plan, request, self._rings(), conditioning)
        marks = [self.schedule.last_and_stop[0].unsqueeze(2), self.schedule.unknown]
        self.marks = to_device(torch.cat(marks, 2).to(torch.int32), self.device)
        self.faults = no_faults(request)
        self.batch = self._batch(config)
        self.stages = plan.colors + 2  # of a pixel: left, and each color
        begin(plan, request, self.features.rings)
        if self.leading_rows:
            self._run_leading_rows()

    @staticmethod
    def device_unsupported_reason(device: torch.device) -> str | None:
        if not HAS_TRITON:
            return "triton is not installed"
        if device.type == "cpu" and interprets():
            return None
        if device.type != "cuda":
            return f"its kernels need a GPU, or TRITON_INTERPRET=1 on a CPU, got {device}"
        major, minor = torch.cuda.get_device_capability(device)
        return (
            None if major >= 8 else f"its kernels need compute capability 8.0, got {major}.{minor}"
        )

    @staticmethod
    def skip_reason(device: torch.device) -> str | None:
        return None if device.type == "cuda" else "the interpreter is for tests"

    @staticmethod
    def unsupported_reason(plan: Plan, request: Request) -> str | None:
        if next(request.model.parameters()).dtype == torch.float64:
            return "its kernels take float32, float16 or bfloat16, got float64"
        return parameters_unsupported_reason(request) or plan_unsupported_reason(plan)

    def draw(self, sampler: Sampler) -> None:
        for row in self._rows():
            sampler.begin_row(self.request, row)
            if self._begin_row(row):
                cols = self.schedule.cols
                stages = range(cols.start * self.stages, self._end(row))
                self._run_pixels(row, stages, sampler=sampler)
                self._record_faults(row)
                self._run_padding(row)
        sampler.check_faults(self.request, self.faults)

    def positions(self) -> Positions:
        for row in self._rows():
            if not self._begin_row(row):
                continue
            at, resumes = self.schedule.cols.start * self.stages, False
            for col, color in self._unknown(row):
                stage = col * self.stages + 1 + color
                self._run_pixels(row, range(at, stage + 1), resumes=resumes, pauses=True)
                span = self.plan.logits[color]
                ring = self.features.rings[span.buffer]
                logits = ring.span(row, col, 1, span.first, span.count)
                drawn = yield (row, col, color), logits
                self.write((row, col, color), drawn)
                at, resumes = stage, True
            self._run_pixels(row, range(at, self._end(row)), resumes=resumes)
            self._run_padding(row)

    # Rows.

    def _rows(self) -> range:
        return range(self.schedule.leading_rows, self.schedule.last_row + 1)

    def _unknown(self, row: int) -> Iterator[tuple[int, int]]:
        """Yield (column, color) of each value of a row that has to be drawn."""
        for col in self.schedule.cols:
            for color in range(self.plan.colors):
                if self.schedule.is_unknown(row, col, color):
                    yield col, color

    def _end(self, row: int) -> int:
        """Return the number of stages of a row; none follow the last unknown value of the image."""
        for col in self.schedule.cols:
            if self.schedule.is_last(row, col):
                return col * self.stages + 1 + self.schedule.stop(row, col)
        return self.schedule.cols.stop * self.stages

    def _begin_row(self, row: int) -> bool:
        """Run the row stage, or a whole known row; return True if the row has values to draw."""
        self.features.load_values(row)
        has_unknown = self.schedule.row_has_unknown(row)
        if not has_unknown:
            self.features.load_known(row, self.images)
        self._run_row(self.program.row if has_unknown else self.program.known_row, row)
        return has_unknown

    def _run_leading_rows(self) -> None:
        """Run the known leading rows, only once for all samples of an input that share them."""
        if not self.shares_leading_rows:
            for row in self.leading_rows:
                self._begin_row(row)
            return
        once = TritonEngine(self.plan, self.one_sample_per_input(), self.features.conditioning)
        self.storage.unflatten(0, (self.inputs, -1)).copy_(once.storage.unsqueeze(1))

    # Launches.

    def _run_row(self, tasks: tuple[RowTask, ...], row: int) -> None:
        from pixelsr.kernels.sampling.lists import launch_columns
        from pixelsr.kernels.sampling.rows import launch_row_pointwise, launch_row_product

        own = self.schedule.cols
        with _launching(self.device):
            for task in tasks:
                placed = task.placed
                if row < placed.first_row:
                    continue
                cols = range(own.start, own.stop + placed.padding)
                if placed.scan:
                    order = cols[::-1] if placed.scan.reverse else cols
                    launch_columns(self.batch, task.record, row, order)
                elif task.is_product:
                    launch_row_product(self.batch, task.record, task.count, task.gated, row, cols)
                else:
                    launch_row_pointwise(self.batch, task.record, task.count, row, cols)

    def _run_padding(self, row: int) -> None:
        """Run the steps of the columns to the right of the image, where nothing is drawn."""
        from pixelsr.kernels.sampling.lists import launch_columns

        width = self.plan.image_size[1]
        if row < self.schedule.last_row:  # below the last unknown value nothing reads them
            with _launching(self.device):
                for col, list_at in enumerate(self.program.padding, width):
                    launch_columns(self.batch, list_at, row, range(col, col + 1))

    def _run_pixels(
        self,
        row: int,
        stages: range,
        *,
        resumes: bool = False,
        pauses: bool = False,
        sampler: Sampler | None = None,
    ) -> None:
        """Run stages of a row; without a sampler, the caller chooses the unknown values."""
        from pixelsr.kernels.sampling.pixels import launch_pixels

        program = self.program
        with _launching(self.device):
            launch_pixels(
                self.batch,
                self.images,
                self.request.known_mask,
                self.marks,
                (program.lists, program.logits, program.image),
                self.plan.levels,
                row,
                stages,
                resumes,
                pauses,
                signed(sampler.seed) if sampler else 0,
                self.request.first_index,
                sampler.temperature if sampler else 0.0,
            )

    def _record_faults(self, row: int) -> None:
        """Record invalid logits of a drawn row, before the next row overwrites its logits."""
        from pixelsr.kernels.sampling.faults import launch_faults

        with _launching(self.device):
            launch_faults(
                self.batch,
                self.request.known_mask,
                self.marks,
                self.faults,
                self.program.logits,
                self.plan.colors,
                self.plan.levels,
                row,
                self.schedule.cols,
            )

    def _batch(self, config: object) -> "Batch":
        from pixelsr.kernels.sampling.rows import Batch

        program = self.program
        return Batch(self.storage, program.table, program.weights, program.constants, config)

    # Memory.

    def _bytes_needed(self) -> int:
        """Return the number of bytes for storage, images and conditioning features.

        Samples that share leading rows need the same again for one sample of each input.
        """
        plan = self.plan
        pixels = plan.image_size[0] * plan.image_size[1]
        samples = self.request.samples + self.inputs * self.shares_leading_rows
        values = sum(conditioning_sizes(plan))
        return samples * (4 * self.program.size + plan.colors * pixels) + 4 * self.inputs * values

    def _rings(self) -> dict[str, Ring]:
        width = self.plan.image_size[1]
        rings = {}
        for name, buffer in self.plan.buffers.items():
            padded = padded_width(self.plan, buffer)
            first = self.program.offsets[name]
            piece = self.storage[:, first : first + buffer.rows * padded * buffer.channels]
            shape = (buffer.rows, padded, buffer.channels)
            rings[name] = Ring(buffer, width, piece.unflatten(1, shape).transpose(0, 1))
        return rings


@contextlib.contextmanager
def _launching(device: torch.device) -> Iterator[None]:
    """Select the GPU, or take a lock: the interpreter keeps its state in global variables."""
    if device.type == "cpu":
        with _one_at_a_time:
            yield
    else:
        with torch.cuda.device(device):
            yield


def _packed_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return float32 for bfloat16 in the interpreter, whose bfloat16 is wrong; else the dtype."""
    return torch.float32 if device.type == "cpu" and dtype == torch.bfloat16 else dtype
