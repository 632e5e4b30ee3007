"""The upper bound on images per second: by arithmetic, and by the weights that are read.

An engine that draws tiles of S samples reads all weights of a pixel once for each pixel of a tile.
It reads them from the L2 cache, because 16-bit weights exceed the memory of a multiprocessor.
"""

import dataclasses
import itertools
from typing import Any

from pixelsr.sampling.engines.cuda.engine import CudaEngine
from pixelsr.sampling.engines.cuda.memory_layout import UNIT
from pixelsr.sampling.engines.cuda.program import CudaProgram

FLOPS = 400e12
"""16-bit FLOP per second of an H100 or H200 in practice; a large product alone reaches 700e12."""
L2_BYTES = 6e12
"""Bytes per second read from L2; 5e12 to 7e12 were measured."""
ROW_LIST, LEFT_LIST, FIRST_COLOR_LIST = 0, 2, 4


@dataclasses.dataclass(frozen=True)
class Reads:
    """The bytes of weights that a tile reads to draw one image for each of its samples.

    Attributes:
        of_rows: bytes read by the row stage.
        of_pixels: bytes read by all pixels, one after another.
    """

    of_rows: int
    of_pixels: int

    @property
    def total(self) -> int:
        return self.of_rows + self.of_pixels


def reads_of(cuda_program: CudaProgram) -> Reads:
    """Return the bytes of weights that a tile of a CUDA program reads."""
    height, width = cuda_program.tiles.plan.image_size
    cluster_size = cuda_program.tiles.cut.cluster_size
    table = cuda_program.table.tolist()
    lists, pixels, rows, end = table[:4]
    pixel_runs = [table[i : i + 4] for i in range(pixels, rows, 4)]
    counts = [tuple(table[i : i + 2]) for i in range(lists, pixels, 2)]
    row_count = max(first + count for first, count in counts[: LEFT_LIST * cluster_size])
    size = (end - rows) // max(1, row_count)
    row_runs = [table[i : i + size] for i in range(rows, end, size)]
    sizes = _sizes(cuda_program, [run[0] for run in (*pixel_runs, *row_runs)])

    def of_list(number: int) -> list[tuple[int, int]]:
        return counts[number * cluster_size : (number + 1) * cluster_size]

    stages = [
        LEFT_LIST,
        *(FIRST_COLOR_LIST + 2 * c for c in range(cuda_program.tiles.plan.colors + 1)),
    ]
    pixel = sum(
        sizes[pixel_runs[first + i][0]]
        for stage in stages
        for first, count in of_list(stage + 1)  # with its logits-only part
        for i in range(count)
    )
    row = 0
    for rank, (first, count) in enumerate(of_list(ROW_LIST)):
        share = width * (rank + 1) // cluster_size - width * rank // cluster_size
        for run in row_runs[first : first + count]:
            row += sizes[run[0]] * -(-share // max(1, run[2]))  # read again per group of columns
    return Reads(height * row, height * width * pixel)


def _sizes(cuda_program: CudaProgram, offsets: list[int]) -> dict[int, int]:
    """Return the bytes of each run, from its offset to the next offset."""
    begins = sorted({*offsets, len(cuda_program.packets) // UNIT})
    return {a: (b - a) * UNIT for a, b in itertools.pairwise(begins)}


def bound(engine: CudaEngine) -> dict[str, Any]:
    """Return the images per second by both limits, the lower of which is the bound.

    The dictionary also holds the numbers that the limits are computed from.
    """
    cut, reads = engine.cut, reads_of(engine.cuda_program)
    by = {
        "arithmetic": FLOPS / (2 * engine.plan.macs),
        "L2": cut.samples * L2_BYTES / reads.total,
    }
    which = min(by, key=by.__getitem__)
    return {
        "which": which,
        "images_per_second": by[which],
        "by_arithmetic": by["arithmetic"],
        "by_l2": by["L2"],
        "macs": engine.plan.macs,
        "flops_per_second": FLOPS,
        "l2_bytes_per_second": L2_BYTES,
        "samples_of_a_tile": cut.samples,
        "bytes_of_a_tile": dataclasses.asdict(reads),
    }
