"""The CUDA engine: a launch of one kernel draws whole images of a whole batch."""

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from pixelsr import ops
from pixelsr.sampling.noise import signed
from pixelsr.sampling.plan import Plan
from pixelsr.sampling.request import Request
from pixelsr.sampling.sampler import Sampler, no_faults
from pixelsr.utils.system import available_on, check_memory
from pixelsr.utils.weak_cache import weak_cache

from ..base import PlanEngine, Positions
from ..buffers import packed_conditioning, to_device
from ..packing import parameters_unsupported_reason, weight_dtype
from .memory_layout import UNIT, Cut
from .program import cuda_program, fits, lay_out, plan_unsupported_reason

EMULATES = False
"""True if a test has loaded the kernel for an emulated GPU (see tests/support/emulator)."""

operators = torch.ops.pixelsr
_OPERANDS = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2}
EVENTS = (
    *("begin row", "row stage", "known row", "begin pixel", "left", "colors", "draw"),
    "end pixel",
)
"""The events that take a tile's time, in the order of csrc/cuda/job.h."""
_ROW_BEGINS = -1  # the color of a cursor at the beginning of a row
_MAX_CLUSTER_SIZE = 8  # the most blocks of a cluster that every GPU with clusters supports
_PIXELS_AT_ONCE = 1 << 14
"""Pixels of each image that one launch draws. A launch takes about a second."""


class Machine(NamedTuple):
    """The properties of a GPU that decide how its work is cut."""

    processors: int
    shared: int
    has_clusters: bool

    def tiles_at_once(self, cluster_size: int) -> int:
        """Return how many tiles are drawn at once, each by `cluster_size` multiprocessors.

        The multiprocessors of a cluster are in the same group; a group has 16 or a few more.
        """
        return (
            self.processors if cluster_size == 1 else self.processors // 16 * (16 // cluster_size)
        )


class CudaEngine(PlanEngine):
    """The engine that draws tiles of samples at once, each by a cluster of blocks.

    Args:
        conditioning: the conditioning features if they have been computed already.
    Attributes:
        ticks: int64 ``[tiles, EVENTS]``, to which a draw adds the clock ticks that each event
            takes; empty to measure nothing.
    """

    name = "cuda"

    def __init__(self, plan: Plan, request: Request, conditioning: Tensor | None = None) -> None:
        super().__init__(plan, request)
        self.cut = choose_cut(plan, request)
        self.cuda_program = cuda_program(plan, request, self.cut)
        self.conditioning = (
            packed_conditioning(plan, request) if conditioning is None else conditioning
        )
        self.unknown = to_device(self.schedule.unknown, self.device)
        self.last_and_stop = to_device(self.schedule.last_and_stop, self.device)
        self.faults = no_faults(request)
        self.tiles = _tiles_of(request, self.cut)
        self.ticks = torch.empty(0, dtype=torch.int64, device=self.device)

    @staticmethod
    def device_unsupported_reason(device: torch.device) -> str | None:
        if _is_emulated(device):
            return None
        if device.type != "cuda":
            return f"its kernels need a GPU, got {device}"
        if ops.WHY_NO_CUDA:
            return ops.WHY_NO_CUDA
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            return f"its kernels need compute capability 8.0, got {major}.{minor}"
        return None

    @staticmethod
    def skip_reason(device: torch.device) -> str | None:
        return "the emulated machine is for tests" if _is_emulated(device) else None

    @staticmethod
    def unsupported_reason(plan: Plan, request: Request) -> str | None:
        if reason := parameters_unsupported_reason(request):
            return reason
        dtype = weight_dtype(request)
        if dtype == torch.float64 or (dtype == torch.float32 and not _is_emulated(request.device)):
            return f"it multiplies float16 or bfloat16 weights, got {dtype}; see `weights`"
        return plan_unsupported_reason(plan, _smallest(request))

    def draw(self, sampler: Sampler) -> None:
        prefilled = self._prefill()
        for first, tiles in self._waves(prefilled):
            self._draw_wave(sampler, prefilled, first, tiles)
        sampler.check_faults(self.request, self.faults)

    def _draw_wave(
        self, sampler: Sampler, prefilled: list[Tensor] | None, first: int, tiles: int
    ) -> None:
        """Draw some tiles, in several launches if the images are large.

        At most two launches are queued at a time, so that the reported progress is true and an
        interrupt has to wait for no more than two launches.
        """
        storage, begin = self._begin(prefilled, first, tiles)
        at_once = max(1, _PIXELS_AT_ONCE // self.plan.image_size[1])
        queued: list[torch.cuda.Event] = []
        for row in range(begin, self.schedule.last_row + 1, at_once):
            if len(queued) == 2:
                queued.pop(0).synchronize()
            sampler.begin_row(self.request, row)
            self._run(storage, (row, 0, _ROW_BEGINS), at_once, first, tiles, sampler=sampler)
            if self.device.type == "cuda":
                queued.append(torch.cuda.current_stream(self.device).record_event())

    def positions(self) -> Positions:
        check_memory(*self._needed(self.tiles), self.device)
        storage, begin = self._begin(self._prefill(), 0, self.tiles)
        at = (begin, 0, _ROW_BEGINS)
        logits = self._logits(self.request.samples)
        for row, col, color in self.schedule.unknown.nonzero().tolist():
            self._run(storage, at, self.plan.image_size[0], 0, self.tiles, logits=logits)
            at = (row, col, color)
            drawn = yield at, logits
            self.write(at, drawn)

    def _run(
        self,
        storage: Tensor,
        at: tuple[int, int, int],
        rows: int,
        first: int,
        tiles: int,
        *,
        sampler: Sampler | None = None,
        logits: Tensor | None = None,
    ) -> None:
        """Run some rows of some tiles; without a sampler, stop at the next value's logits."""
        if logits is None:
            logits = self._logits(0)
        if self.device.type == "cuda":  # the cached program may have been made on another stream
            for tensor in (
                self.cuda_program.packets,
                self.cuda_program.table,
                *self.cuda_program.initial.values(),
            ):
                tensor.record_stream(torch.cuda.current_stream(self.device))
        operators.run_tiles_(
            self.cuda_program.packets,
            self.cuda_program.table,
            storage,
            self.conditioning,
            self.images,
            self.request.known_mask,
            self.unknown,
            self.last_and_stop,
            logits,
            self.ticks,
            self.faults,
            *at,
            rows,
            self.schedule.cols.start,
            len(self.schedule.cols),
            signed(sampler.seed) if sampler else 0,
            self.request.first_index,
            sampler.temperature if sampler else 0.0,
            sampler is not None,
            first,
            tiles,
            _OPERANDS[self.cut.operand],
            self.cut.eights,
            self.cut.cluster_size,
            self.cut.shared,
        )

    def _logits(self, samples: int) -> Tensor:
        shape = samples, self.plan.levels
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    # Leading rows that are known.

    def _prefill(self) -> list[Tensor] | None:
        """Return each input's features after its leading rows, or None if not shared."""
        if not self.shares_leading_rows:
            return None
        once = CudaEngine(self.plan, self.one_sample_per_input(), self.conditioning)
        check_memory(*once._needed(once.tiles), self.device)
        storage = once._storage(once.tiles)
        begin = (self.leading_rows.start, 0, _ROW_BEGINS)
        once._run(storage, begin, len(self.leading_rows), 0, once.tiles)
        return list(once.cuda_program.tiles.samples_of(storage, once._tile_bytes()))

    def _begin(self, prefilled: list[Tensor] | None, first: int, tiles: int) -> tuple[Tensor, int]:
        """Return the storage of some tiles, and the row at which they begin."""
        storage = self._storage(tiles)
        if prefilled is None:
            return storage, self.schedule.first_row
        each = self.request.samples // self.inputs
        ends = first * self.cut.samples, (first + tiles) * self.cut.samples
        numbers = torch.arange(*ends, device="cpu")
        inputs = numbers.clamp(max=self.request.samples - 1) // each
        inputs = to_device(inputs, self.device)
        own = self.cuda_program.tiles.samples_of(storage, self._tile_bytes())
        for features, of_inputs in zip(own, prefilled, strict=True):
            chosen = of_inputs.flatten(0, 1).index_select(0, inputs)
            features.copy_(chosen.view(features.shape))
        return storage, self.leading_rows.stop

    # Memory.

    def _tile_bytes(self) -> int:
        return self.cuda_program.units * UNIT

    def _needed(self, tiles: int) -> tuple[int, int, str]:
        """Return the arguments of `check_memory`."""
        samples = min(self.request.samples, tiles * self.cut.samples)
        return tiles * self._tile_bytes(), samples, "max_batch of pixelsr.sample splits the work"

    def _waves(self, prefilled: list[Tensor] | None) -> Iterator[tuple[int, int]]:
        """Yield (first, count) of the tiles to draw at once, as many as fit the memory."""
        check_memory(*self._needed(1), self.device)
        free = available_on(self.device)
        tile = self._tile_bytes()
        if prefilled is not None:  # room for a temporary copy of a ring
            buffers = self.plan.buffers.values()
            tile += max(
                buffer.rows * self.cuda_program.tiles.row_size(buffer) for buffer in buffers
            )
        most = self.tiles if free is None else max(1, int(0.9 * free) // tile)
        for first in range(0, self.tiles, most):
            yield first, min(most, self.tiles - first)

    def _storage(self, tiles: int) -> Tensor:
        storage = torch.zeros(tiles * self._tile_bytes(), dtype=torch.uint8, device=self.device)
        self.cuda_program.tiles.begin(storage, self._tile_bytes(), self.cuda_program.initial)
        return storage


def machine(device: torch.device) -> Machine:
    if device.type != "cuda":  # emulated: the sizes of an H100
        return Machine(132, 227 * 1024, True)
    properties = torch.cuda.get_device_properties(device)
    return Machine(
        properties.multi_processor_count,
        int(properties.shared_memory_per_block_optin),  # type: ignore[attr-defined]
        properties.major >= 9,
    )


def choose_cut(plan: Plan, request: Request) -> Cut:
    """Return a cut with tiles of 8 samples, or of 16 if there is room for them.

    A tile of 16 takes longer than a tile of 8, but less than twice as long. So tiles of 8 are used
    only if they can all be drawn at once, each by as many blocks as a tile of 16 would get.
    """
    small = _with_cluster_size(_smallest(request), request)
    large = dataclasses.replace(small, eights=2)
    if request.samples <= small.samples or not _has_room(plan, large):
        return small
    large = _with_cluster_size(large, request)
    at_once = _tiles_of(request, small) <= _tiles_at_once(small, request.device)
    return small if at_once and small.cluster_size >= large.cluster_size else large


def _with_cluster_size(cut: Cut, request: Request) -> Cut:
    """Return the cut with the largest cluster for which all tiles can be drawn at once."""
    cluster_size = _MAX_CLUSTER_SIZE if machine(request.device).has_clusters else 1
    cut = dataclasses.replace(cut, cluster_size=cluster_size)
    while cut.cluster_size > 1 and _tiles_of(request, cut) > _tiles_at_once(cut, request.device):
        cut = dataclasses.replace(cut, cluster_size=cut.cluster_size // 2)
    return cut


def _tiles_of(request: Request, cut: Cut) -> int:
    return -(-request.samples // cut.samples)


def _tiles_at_once(cut: Cut, device: torch.device) -> int:
    """Return how many tiles are drawn at once, limited by the driver on a real GPU."""
    most = machine(device).tiles_at_once(cut.cluster_size)
    if device.type != "cuda" or cut.cluster_size == 1:
        return most
    return min(most, _clusters_at_once(cut, device))


@lru_cache(maxsize=64)
def _clusters_at_once(cut: Cut, device: torch.device) -> int:
    where = torch.empty(0, dtype=torch.float32, device=device)
    operand = _OPERANDS[cut.operand]
    return operators.clusters_at_once(where, operand, cut.eights, cut.cluster_size, cut.shared)


@weak_cache
def _has_room(plan: Plan, cut: Cut) -> bool:
    """Return True if the features that products read at pixels fit into shared memory."""
    return fits(plan, cut) and lay_out(plan, cut).has_operand_windows()


def _smallest(request: Request) -> Cut:
    return Cut(weight_dtype(request), 1, 1, machine(request.device).shared)


def _is_emulated(device: torch.device) -> bool:
    return EMULATES and device.type == "cpu"
