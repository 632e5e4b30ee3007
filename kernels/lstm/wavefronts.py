"""What the kernels of the recurrences share: the cells of a tile, and which programs it falls to.

A front is all cells that depend on no other of them: a row of a Row LSTM, a diagonal of a Diagonal
LSTM. Work is a tile of a front's cells times a block of channels. A program owns some samples: it
takes works of them in turns with the others that own the same, or alone all of them, front after
front. What passes from front to front goes through memory: forward the hidden states, as they are
returned, backward the gradients of the gates.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..configs import ALONE, Config
from ..precision import input_precision, matmul_precision

MOST_CELLS = 2**30
"""Of the samples of one program in one front, which 32 bits count."""


@triton.jit
def wavefront_of(number, height, width, DIAGONAL: tl.constexpr):
    """The first of its states, and how many it has."""
    if DIAGONAL:
        first = tl.maximum(0, number - width + 1)
        count = tl.minimum(number + 1, height) - first
    else:
        first = number * 0
        count = width
    return first, count


@triton.jit
def samples_of(samples, works, batch):
    """The first sample of this program, and how many it has."""
    first = (tl.program_id(0) // works).to(tl.int64) * samples
    return first, tl.minimum(samples, batch - first).to(tl.int32)


@triton.jit
def tile_of(
    wavefront,
    tile,
    first_sample,
    samples,
    height,
    width,
    DIAGONAL: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sample, state, row and column of a front's cells, and do they exist? [BLOCK] each."""
    first, count = wavefront_of(wavefront, height, width, DIAGONAL)
    number = tile * BLOCK + tl.arange(0, BLOCK)
    exists = number < samples * count
    sample = first_sample + number // count
    state = first + number % count
    if DIAGONAL:
        row = state
        col = wavefront - state
        if REVERSE:
            col = width - 1 - col
    else:
        row = state * 0 + wavefront
        col = state
    return sample, state, row, col, exists


@triton.jit
def position_of(tap, border, DIAGONAL: tl.constexpr, REVERSE: tl.constexpr):
    """Of what a tap reads: rows down and columns to the right of the cell."""
    if DIAGONAL:
        down = tap - 1
        right = tap if REVERSE else -tap
    else:
        down = tap * 0 - 1
        right = tap - border
    return down, right


@triton.jit
def is_inside(row, col, exists, height, width):
    return exists & (row >= 0) & (row < height) & (col >= 0) & (col < width)


@triton.jit
def load(at, mask):
    return tl.load(at, mask=mask, other=0).to(tl.float32)


@triton.jit
def store(at, value, mask):
    tl.store(at, value.to(at.dtype.element_ty), mask=mask)


class Share(NamedTuple):
    """What the programs of one launch have to do.

    Attributes:
        programs: how many there are.
        samples: of each program.
        works: programs that own the same samples.
        first_wavefront, last_wavefront: those that are walked, the last one not included.
    """

    programs: int
    samples: int
    works: int
    first_wavefront: int
    last_wavefront: int


SHARE = list(Share._fields[1:])
"""Arguments that are 1, or multiples of 16, in some launches alone: no reason to compile again."""


def is_alone(x: Tensor, weight: Tensor) -> bool:
    """Are all fronts walked in one launch?"""
    return weight.numel() * x.element_size() <= ALONE[matmul_precision(x)]


def shares(cells: Sequence[int], x: Tensor, config: Config, alone: bool) -> Iterator[Share]:
    """Yield one launch, or one for each wavefront, of states like `x`, ``[N, h, H, W]``.

    Args:
        cells: of each wavefront, in one sample.
    """
    batch, channels = x.shape[:2]
    if alone:
        samples = max(1, config.pixels // max(cells))
        yield Share(triton.cdiv(batch, samples), samples, 1, 0, len(cells))
        return
    for number, count in enumerate(cells):
        samples = min(batch, max(1, MOST_CELLS // count))
        works = triton.cdiv(samples * count, config.pixels) * triton.cdiv(channels, config.out)
        yield Share(triton.cdiv(batch, samples) * works, samples, works, number, number + 1)


def options(x: Tensor, config: Config, diagonal: bool, reverse: bool) -> dict[str, Any]:
    """What a kernel is compiled for."""
    return {
        "DIAGONAL": diagonal,
        "REVERSE": reverse,
        "BLOCK_P": config.pixels,
        "BLOCK_OUT": config.out,
        "BLOCK_IN": config.inputs,
        "OPERANDS": _operands(x.dtype),
        "PRECISION": input_precision(matmul_precision(x)),
        "num_warps": config.warps,
        "num_stages": config.stages,
    }


def _operands(dtype: torch.dtype) -> tl.dtype:
    """Of products; the interpreter makes those of bfloat16 wrong."""
    if dtype == torch.bfloat16 and triton.knobs.runtime.interpret:
        return tl.float32
    kinds = {
        torch.float32: tl.float32,
        torch.float16: tl.float16,
        torch.bfloat16: tl.bfloat16,
    }
    return kinds[dtype]


def strides(x: Tensor) -> tuple[int, int, int]:
    """From sample to sample, row to row and cell to cell; that of channels is 1."""
    sample, _, row, col = x.stride()
    return sample, row, col
