"""The division of the recurrences' work into wavefronts, tiles and programs.

A wavefront is a set of cells that do not depend on each other: a row of a Row LSTM, a diagonal of a
Diagonal LSTM. A work item is a tile of a wavefront's cells times a block of channels. Each program
owns some samples. Either it computes all work items of its samples alone, wavefront after
wavefront, or each launch computes one wavefront and several programs share the work items of the
same samples. Data passes from wavefront to wavefront through memory: the returned hidden states in
the forward pass, the gradients of the gates in the backward pass.
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
"""The most cells of one program's samples in one wavefront; the kernels count them in 32 bits."""


@triton.jit
def wavefront_of(number, height, width, DIAGONAL: tl.constexpr):
    """Return the first state of a wavefront, and its number of states."""
    if DIAGONAL:
        first = tl.maximum(0, number - width + 1)
        count = tl.minimum(number + 1, height) - first
    else:
        first = number * 0
        count = width
    return first, count


@triton.jit
def samples_of(samples, works, batch):
    """Return the first sample of this program, and its number of samples."""
    first = (tl.program_id(0) // works).to(tl.int64) * samples
    return first, tl.minimum(samples, batch - first).to(tl.int32)


@triton.jit
def cells_of(
    work,
    wavefront,
    first_sample,
    samples,
    height,
    width,
    channels,
    DIAGONAL: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """Return the cells and the channels of a work item.

    Returns:
        sample, state, row, column, number over all samples and mask of the cells, [BLOCK_P] each;
        the channels and their mask, [BLOCK_OUT] each.
    """
    out_blocks = tl.cdiv(channels, BLOCK_OUT)
    first, count = wavefront_of(wavefront, height, width, DIAGONAL)
    number = work // out_blocks * BLOCK_P + tl.arange(0, BLOCK_P)
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
    pixel = (sample * height + row) * width + col
    out = work % out_blocks * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    return sample, state, row, col, pixel, exists, out, out < channels


@triton.jit
def position_of(tap, border, DIAGONAL: tl.constexpr, REVERSE: tl.constexpr):
    """Return the offset of the cell that a tap reads, in rows and columns."""
    if DIAGONAL:
        down = tap - 1
        right = tap if REVERSE else -tap
    else:
        down = tap * 0 - 1
        right = tap - border
    return down, right


@triton.jit
def load(at, mask):
    return tl.load(at, mask=mask, other=0).to(tl.float32)


@triton.jit
def store(at, value, mask):
    tl.store(at, value.to(at.dtype.element_ty), mask=mask)


class Share(NamedTuple):
    """The work of one launch.

    Attributes:
        programs: the number of programs.
        samples: the number of samples of each program.
        works: the number of programs that own the same samples.
        first_wavefront, last_wavefront: the range of wavefronts, without the last one.
    """

    programs: int
    samples: int
    works: int
    first_wavefront: int
    last_wavefront: int


SHARE = list(Share._fields[1:])
"""The kernel arguments that Triton must not specialize on. They are 1 or multiples of 16 only in
some launches, which would compile the kernel again.
"""


def is_alone(x: Tensor, weight: Tensor) -> bool:
    """Return True if one launch computes all wavefronts."""
    return weight.numel() * x.element_size() <= ALONE[matmul_precision(x)]


def shares(cells: Sequence[int], x: Tensor, config: Config, alone: bool) -> Iterator[Share]:
    """Yield one launch, or one for each wavefront, of states like `x`, ``[N, h, H, W]``.

    Args:
        cells: the number of cells of each wavefront in one sample.
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
    """Return the compile-time arguments of a kernel."""
    return {
        "DIAGONAL": diagonal,
        "REVERSE": reverse,
        "OPERANDS": _operands(x.dtype),
        "PRECISION": input_precision(matmul_precision(x)),
        **config.launch_options(),
    }


def _operands(dtype: torch.dtype) -> tl.dtype:
    """Return the dtype of the products' operands; the interpreter gets bfloat16 products wrong."""
    if dtype == torch.bfloat16 and triton.knobs.runtime.interpret:
        return tl.float32
    kinds = {
        torch.float32: tl.float32,
        torch.float16: tl.float16,
        torch.bfloat16: tl.bfloat16,
    }
    return kinds[dtype]
