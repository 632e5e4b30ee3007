"""The CUDA program: a plan as a sequence of packets, and a table of their offsets.

csrc/cuda/program.h declares what is written here, in the same order.
"""

import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr.sampling.binding import Binding, bind
from pixelsr.sampling.plan import Buffer, Plan, Pointwise, Product, Span
from pixelsr.sampling.plan.pointwise import MAX_ARGS
from pixelsr.sampling.request import Request

from ..fusion import Task, tasks
from ..packing import OPCODES, initial_of, pointwise_unsupported_reason, postfix
from ..program_cache import ProgramCache
from .cluster import WARPS, Work, share
from .memory_layout import BLOCK, MOST_TURNS, NOWHERE, UNIT, Cut, Tiles, Transfer
from .mma_layout import FRAGMENT, biases, first_block, fragments, input_blocks, outputs_of

_STAGES, _MOST_TAPS, _FARTHEST, _TILES_OF_A_WARP = 3, 16, 127, 8
_CONTROL = 640
"""Bytes at the beginning of shared memory, before the packets and windows."""
_SUMS = WARPS * _TILES_OF_A_WARP * 32 * 16
"""Bytes of shared memory that the sums of a row's product pass through."""
_WEIGHTS = 4096
"""The most weights in a packet for a pixel. Their copy takes some hundred cycles."""
_MOST_CODE = 256
"""The most instructions of a pointwise step."""
_CODE = np.dtype([("opcode", "<i4"), ("operand", "<i4")])

_FUNCTIONS = {"": 0, "relu": 1, "gate": 2}
_PRODUCT, _POINTWISE, _BARRIER, _SCAN = range(4)
_OVERWRITES, _KEEPS, _BEGINS, _ENDS, _WAITS, _REVERSE = 1, 2, 4, 8, 16, 32
_HEADER = (12 + 4 * len(NOWHERE)) * 4 + 2 * _MOST_TAPS
_CONTENTS = 22


@dataclass(frozen=True)
class CudaProgram:
    """A plan packed for one cut.

    Attributes:
        packets: uint8, the program.
        table: int32, the offsets of lists, runs and features; see csrc/cuda/program.h.
        initial: the initial states of recurrences, ``[blocks, BLOCK]``, by buffer.
        units: the storage of a tile, in units: rings, the noise of a row, saved windows.
    """

    tiles: Tiles
    packets: Tensor
    table: Tensor
    initial: dict[str, Tensor]
    units: int


_programs: ProgramCache[CudaProgram] = ProgramCache()


def cuda_program(plan: Plan, request: Request, cut: Cut) -> CudaProgram:
    """Return the program of a plan; it is packed again only when a weight has changed."""

    def pack() -> CudaProgram:
        return _Writer(plan, bind(plan, request), cut).run(request.device)

    return _programs.get(plan, request, (cut, request.device), pack)


def lay_out(plan: Plan, cut: Cut) -> Tiles:
    """Return the layout of the features; windows get the shared memory that packets leave."""
    tiles = Tiles(plan, cut)
    tiles.place_windows((cut.shared - _CONTROL - _STAGES * _slot(cut)) // UNIT)
    return tiles


def fits(plan: Plan, cut: Cut) -> bool:
    """Return True if packets of one output tile, one input block and one column fit."""
    steps = [placed.step for placed in plan.placed]
    return cut.shared >= _CONTROL + max(_STAGES * _slot(cut), _SUMS) and all(
        _most_tiles(step, cut) for step in steps if isinstance(step, Product)
    )


def plan_unsupported_reason(plan: Plan, cut: Cut) -> str | None:
    """Return the reason why a plan has no program for a cut, or None if it has one."""
    if not fits(plan, cut):
        return f"its blocks need more than the {cut.shared} bytes of shared memory of this GPU"
    for task in tasks(plan):
        step = task.step
        if isinstance(step, Product) and max(len(step.rows), len(step.cols)) > _MOST_TAPS:
            return f"a product into {step.out.buffer} reads more than {_MOST_TAPS} rows or columns"
        if isinstance(step, Product) and max(map(abs, (*step.rows, *step.cols, 0))) > _FARTHEST:
            return f"a product into {step.out.buffer} reads more than {_FARTHEST} pixels away"
        if isinstance(step, Pointwise) and (reason := pointwise_unsupported_reason(step)):
            return reason
        if isinstance(step, Pointwise) and len(postfix(step.expression)) > _MOST_CODE:
            return f"the pointwise step into {step.out.buffer} is too long for it"
    rows = max(buffer.rows for buffer in plan.buffers.values())
    if rows > MOST_TURNS:
        return f"its products read {rows} rows, more than {MOST_TURNS}"
    return None


def _slot(cut: Cut) -> int:
    """Return the largest size of a packet for a pixel, in bytes."""
    product = WARPS * BLOCK * 4 + _WEIGHTS * cut.operand.itemsize
    pointwise = MAX_ARGS * len(NOWHERE) * 4 + _MOST_CODE * _CODE.itemsize
    return _HEADER + max(product, pointwise)


Packet = tuple[list[int], bytes, bytes]
"""The task, taps and body of a packet."""
Where = Callable[[Span], list[int]]
"""A function that returns the place of a span: `Tiles.near` or `Tiles.ring`."""


class _Writer:
    def __init__(self, plan: Plan, binding: Binding, cut: Cut) -> None:
        self.plan, self.binding, self.cut = plan, binding, cut
        self.tiles = lay_out(plan, cut)
        self.packets: list[bytes] = []
        self.end = 0
        self.weights: dict[int, np.ndarray] = {}
        self.row_offsets: dict[tuple[int, int, int], int] = {}
        self.lists: list[int] = []
        self.pixel_runs: list[list[int]] = []
        self.row_runs: list[list[int]] = []
        self.scans: dict[tuple[int, ...], tuple[Task, ...]] = {}

    def run(self, device: torch.device) -> CudaProgram:
        moments = self.plan.moments(self.tiles.tasks, lambda task: task.placed)
        self.first_scan = 2 + len(moments.of_pixels)
        for due in (moments.row, moments.known_row):
            self._row_list(due)
        for due in moments.of_pixels:
            self._pixel_list(due, self.tiles.near)
        for scan in self.scans.values():
            self._pixel_list(scan, self.tiles.ring)
        table, units = self._table()
        packets = np.frombuffer(bytearray(b"".join(self.packets) or bytes(UNIT)), np.uint8)
        return CudaProgram(
            self.tiles,
            torch.from_numpy(packets).to(device),
            torch.tensor(table, dtype=torch.int32, device=device),
            {b.name: self._initial(b).to(device) for b in self.plan.buffers.values() if b.initial},
            units,
        )

    # Lists.

    def _row_list(self, tasks: Sequence[Task]) -> None:
        first = len(self.row_runs)
        for scan, group in itertools.groupby(tasks, lambda task: task.placed.scan):
            if scan is not None:
                self._row_scan(tuple(group))
                continue
            for task in group:
                self._row_task(task)
        self.lists += [first, len(self.row_runs) - first] * self.cut.cluster_size

    def _pixel_list(self, tasks: Sequence[Task], place: Where) -> None:
        for work in share(tasks, self.cut.cluster_size):
            packets = [packet for part in work for packet in self._pixel_packets(part, place)]
            self.lists += [len(self.pixel_runs), int(bool(packets))]
            if packets:
                self._pixel_run(packets)

    def _pixel_run(self, packets: list[Packet]) -> None:
        """Write packets one after another, each with the size of the packet two further on."""
        sizes = [(_HEADER + len(body)) // UNIT for _, _, body in packets]
        sizes += [0] * (_STAGES - 1)
        self.pixel_runs.append([self.end, len(packets), *sizes[: _STAGES - 1]])
        for number, (task, taps, body) in enumerate(packets):
            task[11] = sizes[number + _STAGES - 1]
            self._write(_ints(task) + taps + body)

    # Tasks.

    def _task(self, task: Task, flags: int, first_tile: int, tiles: int, place: Where) -> list[int]:
        """Return the integers of a Task of csrc/cuda/program.h that covers all inputs."""
        step = task.step
        product = step if isinstance(step, Product) else None
        flags |= _KEEPS * task.keeps
        flags |= _OVERWRITES * bool(product and product.overwrite)
        source, add = (product.src, product.add) if product else (None, None)
        head = [
            _PRODUCT if product else _POINTWISE,
            _FUNCTIONS[task.function],
            flags,
            step.out.count,
        ]
        head += [first_tile, tiles]
        if isinstance(step, Product):
            blocks = input_blocks(step)
            head += [first_block(step) if blocks else 0, blocks, len(step.rows), len(step.cols), 0]
        else:
            head += [0, len(step.args), 0, 0, len(postfix(step.expression))]
        positions = [
            place(span) if span else NOWHERE for span in (source, step.out, add, task.result)
        ]
        return [*head, 0, *_joined(positions)]

    def _pointwise(self, step: Pointwise, place: Where) -> bytes:
        args = _ints(_joined(place(span) for span in step.args))
        return _padded(args + b"".join(map(_instruction, postfix(step.expression))))

    def _pixel_packets(self, part: Work, place: Where) -> list[Packet]:
        """Return the packets with which one block of the cluster runs its part of a task."""
        if part is None:
            return [([_BARRIER] + [0] * (_HEADER // 4 - 9), _taps((), ()), b"")]
        step = part.task.step
        if isinstance(step, Pointwise):
            header = self._task(part.task, 0, 0, 0, place)
            return [(header, _taps((), ()), self._pointwise(step, place))]
        at_once = _WEIGHTS // (max(1, len(step.cols)) * FRAGMENT)
        end = part.first + part.tiles
        packets = []
        for first in range(part.first, end, min(WARPS, at_once)):
            tiles = min(WARPS, at_once, end - first)
            packets += self._piece(part.task, step, first, tiles, max(1, at_once // tiles), place)
        return packets

    def _piece(
        self, task: Task, step: Product, first: int, tiles: int, at_once: int, place: Where
    ) -> list[Packet]:
        """Return packets of `at_once` input blocks each, for some tiles of outputs."""
        packets = []
        weights, bias = self._weights(task), self._bias(task, first, tiles)
        for block in range(0, max(1, input_blocks(step)), at_once):
            blocks = min(at_once, input_blocks(step) - block)
            begins, ends = block == 0, block + at_once >= input_blocks(step)
            flags = _BEGINS * begins | _ENDS * ends
            header = self._task(task, flags, first, tiles, place)
            header[6:8] = [header[6] + block, blocks]
            own = weights[:1, block : block + blocks, :, first : first + tiles]
            body = (bias if begins else b"") + own.tobytes()
            packets.append((header, _taps((0,), step.cols), body))
        return packets

    def _row_task(self, task: Task) -> None:
        step = task.step
        waits = self.cut.cluster_size > 1 and _reads_beside(step)
        if isinstance(step, Pointwise):
            body = self._pointwise(step, self.tiles.ring)
            self._row_run(task, 0, 0, body, 1, 1, waits=waits)
            return
        whole, most = len(outputs_of(task)) // 16, _most_tiles(step, self.cut)
        for first in range(0, whole, most):
            tiles = min(most, whole - first)
            cols, blocks = self._pass(step, tiles)
            own = self._weights(task)[:, :, :, first : first + tiles]
            body = self._bias(task, first, tiles) + own.tobytes()
            self._row_run(task, first, tiles, body, blocks, cols, waits=waits and first == 0)

    def _row_scan(self, scan: tuple[Task, ...]) -> None:
        """Write the steps of a scan as a list of their own, after all other lists."""
        placed, key = scan[0].placed, tuple(id(task) for task in scan)
        self.scans.setdefault(key, scan)
        number = self.first_scan + list(self.scans).index(key)
        flags = _REVERSE * bool(placed.scan and placed.scan.reverse)
        task = [_SCAN, 0, flags] + [0] * (_HEADER // 4 - 3)
        self.row_runs.append([number, 0, 0, placed.first_row, placed.padding, *task])

    def _pass(self, step: Product, tiles: int) -> tuple[int, int]:
        """Return how many columns and input blocks the product of a row takes at once."""
        groups = WARPS // -(-tiles // 2)
        width = self.plan.image_size[1] + self.plan.padding
        cols = min(groups * _TILES_OF_A_WARP // self.cut.eights, width)
        if step.src is None:
            return cols, 1
        weights = tiles * len(step.cols) * FRAGMENT * self.cut.operand.itemsize
        cols = min(cols, (_row_slot(self.cut) - weights) // _column(self.cut) - _reach(step))
        fits = _row_slot(self.cut) // (weights + (cols + _reach(step)) * _column(self.cut))
        return cols, min(fits, 4, input_blocks(step))

    def _row_run(
        self, task: Task, first: int, tiles: int, body: bytes, step: int, cols: int, *, waits: bool
    ) -> None:
        key = (id(task), first, tiles)
        if key not in self.row_offsets:
            self.row_offsets[key] = self.end
            self._write(body)
        header = self._task(task, _WAITS * waits, first, tiles, self.tiles.ring)
        product = task.step if isinstance(task.step, Product) else None
        taps = _taps(product.rows, product.cols) if product else _taps((), ())
        run = [self.row_offsets[key], step, cols, task.placed.first_row, task.placed.padding]
        self.row_runs.append([*run, *header, *np.frombuffer(taps, "<i4").tolist()])

    # Weights.

    def _weights(self, task: Task) -> np.ndarray:
        """Return a task's weights ``[rows, blocks, columns, tiles, bytes]``."""
        if id(task) not in self.weights:
            packed = fragments(task, self.binding).to(self.cut.operand).contiguous()
            self.weights[id(task)] = packed.view(torch.uint8).numpy()
        return self.weights[id(task)]

    def _bias(self, task: Task, first: int, tiles: int) -> bytes:
        assert isinstance(task.step, Product)
        if not task.step.overwrite:
            return b""
        return biases(task, self.binding)[first * 16 : (first + tiles) * 16].numpy().tobytes()

    def _initial(self, buffer: Buffer) -> Tensor:
        assert buffer.initial
        state = initial_of(self.binding, buffer.initial)[list(buffer.order)]
        return F.pad(state, (0, -len(state) % BLOCK)).unflatten(0, (-1, BLOCK))

    def _write(self, body: bytes) -> None:
        assert len(body) % UNIT == 0
        self.packets.append(body)
        self.end += len(body) // UNIT

    # The table.

    def _table(self) -> tuple[list[int], int]:
        plan, tiles, cut = self.plan, self.tiles, self.cut
        table = [0] * _CONTENTS

        def put(ints: list[int]) -> int:
            table.extend(ints)
            return len(table) - len(ints)

        image = tiles.image()
        fetches, stores, windows = tiles.fetches(), tiles.stores(), tiles.all_windows()
        noise = tiles.units
        saved = noise + -(-plan.image_size[1] * plan.colors * cut.samples * plan.levels * 4 // UNIT)
        units = saved + tiles.windows_units
        units += -units % 8  # tiles begin at multiples of 128 bytes
        table[:_CONTENTS] = [
            put(self.lists),
            put(_joined(self.pixel_runs)),
            put(_joined(self.row_runs)),
            put(tiles.ring(image)),
            put(tiles.near(image)),
            put(_joined(tiles.near(span) for span in plan.logits)),
            put(self._values()),
            len(plan.conditioning),
            put(self._transfers(fetches)),
            len(fetches),
            put(self._transfers(stores)),
            len(stores),
            put(self._transfers(windows)),
            len(windows),
            plan.padding,
            (_CONTROL + _STAGES * _slot(cut)) // UNIT,
            tiles.windows_units,
            _slot(cut) // UNIT,
            _row_slot(self.cut) // UNIT,
            noise,
            saved,
            units,
        ]
        return table, units

    def _values(self) -> list[int]:
        height, width = self.plan.image_size
        offset, found = 0, []
        for name in self.plan.conditioning:
            channels, padding = self.plan.buffers[name].channels, self.plan.buffers[name].padding
            found += [*self.tiles.ring(self.tiles.whole(name)), offset, channels, padding]
            offset += height * (width + padding) * channels
        return found

    def _transfers(self, transfers: list[Transfer]) -> list[int]:
        found = []
        for transfer in transfers:
            whole = self.tiles.whole(transfer.buffer)
            found += [*self.tiles.ring(whole), *self.tiles.near(whole)]
            found += [transfer.first_block, transfer.blocks]
        return found


def _row_slot(cut: Cut) -> int:
    """Return the size of a slot for rows, which also use the memory of the windows."""
    return (cut.shared - _CONTROL) // _STAGES // 128 * 128


def _column(cut: Cut) -> int:
    """Return the bytes of one input block of a column."""
    return cut.samples * BLOCK * cut.operand.itemsize


def _most_tiles(step: Product, cut: Cut) -> int:
    """Return how many output tiles fit, with weights for an input block and a column of inputs."""
    room = _row_slot(cut) - (1 + _reach(step)) * _column(cut)
    return min(WARPS, max(0, room) // (max(1, len(step.cols)) * FRAGMENT * cut.operand.itemsize))


def _reach(step: Product) -> int:
    return max(step.cols) - min(step.cols) if step.cols else 0


def _reads_beside(step: Product | Pointwise) -> bool:
    """Return True if a step reads other pixels of its own row."""
    return any(span.dc for span in step.sources) or (isinstance(step, Product) and any(step.cols))


def _joined(lists: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


def _ints(numbers: list[int]) -> bytes:
    return np.array(numbers, "<i4").tobytes()


def _taps(rows: tuple[int, ...], cols: tuple[int, ...]) -> bytes:
    return b"".join(
        np.array([*taps, *[0] * (_MOST_TAPS - len(taps))], "<i1").tobytes() for taps in (rows, cols)
    )


def _instruction(instruction: tuple[str, float]) -> bytes:
    opcode, operand = instruction
    constant = torch.tensor(operand, dtype=torch.float32, device="cpu")  # infinite if too large
    bits = constant.numpy().tobytes() if opcode == "const" else struct.pack("<i", int(operand))
    return struct.pack("<i", OPCODES[opcode]) + bits


def _padded(body: bytes) -> bytes:
    return body + bytes(-len(body) % UNIT)
