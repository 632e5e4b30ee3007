"""Tasks of a plan at whole rows of many images, one launch for each task."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .steps import pointwise, product

SAMPLES = 16
"""The samples of a tile at a single pixel: the smallest side of a matrix instruction."""
POINTWISE_LANES = 32
"""The channels of a pointwise function at once; its stack of eight must fit in registers."""


@dataclass(frozen=True)
class Config:
    """The block sizes of products.

    Attributes:
        positions: the positions of a row per program; programs of single pixels have SAMPLES.
        out: the outputs of a program of rows.
        pixel_out: the outputs of a step of a program of pixels.
        inputs: the inputs that are multiplied at once.
        warps: the warps of a program of rows.
        pixel_warps: the warps of a program of pixels.
        stages: the pipeline stages of both.
        reason: the reason for this choice.
    """

    positions: int
    out: int
    pixel_out: int
    inputs: int
    warps: int
    pixel_warps: int
    stages: int
    reason: str


HALF = Config(
    64, 64, 128, 64, 8, 16, 3, "a color group of 128 is one step, with one tile in flight"
)
IEEE = Config(32, 64, 64, 16, 4, 8, 2, "no matrix instructions: all of a block is in registers")


def config_of(dtype: torch.dtype) -> Config:
    """Return the config of products with weights of a dtype."""
    return IEEE if dtype == torch.float32 else HALF


@dataclass(frozen=True)
class Batch:
    """The arguments that all launches of a batch have in common.

    Attributes:
        storage: float32 ``[samples, size]``.
        table, weights, constants: the tensors of the engine's program.
        config: the block sizes for the weights' dtype.
    """

    storage: Tensor
    table: Tensor
    weights: Tensor
    constants: Tensor
    config: Config


@triton.jit
def _tile_of_row(storage_ptr, size, samples, row, first_col, cols, number, BLOCK_M: tl.constexpr):
    """Return a tile of positions of a row, counted sample by sample; see steps.py."""
    first = number * BLOCK_M
    sample = first // cols
    place = first % cols + tl.arange(0, BLOCK_M)
    more = place // cols
    base = storage_ptr + sample.to(tl.int64) * size
    return base, more * size, sample + more < samples, row, first_col + place % cols


@triton.jit(do_not_specialize=["task", "row", "samples", "first_col", "cols", "size", "out_blocks"])
def _row_product_kernel(
    storage_ptr,
    table_ptr,
    weight_ptr,
    constants_ptr,
    task,
    row,
    size,
    samples,
    first_col,
    cols,
    out_blocks,
    GATED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Run a product at all positions of a row."""
    number, block = tl.program_id(0) // out_blocks, tl.program_id(0) % out_blocks
    tile = _tile_of_row(storage_ptr, size, samples, row, first_col, cols, number, BLOCK_M)
    program = (table_ptr, weight_ptr, constants_ptr)
    BLOCKS: tl.constexpr = (BLOCK_M, BLOCK_OUT, BLOCK_K)
    product(program, table_ptr + task, tile, block, GATED, BLOCKS, PRECISION)


@triton.jit(do_not_specialize=["task", "row", "samples", "first_col", "cols", "size", "out_blocks"])
def _row_pointwise_kernel(
    storage_ptr,
    table_ptr,
    constants_ptr,
    task,
    row,
    size,
    samples,
    first_col,
    cols,
    out_blocks,
    BLOCK_M: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Run a pointwise function at all positions of a row."""
    number, block = tl.program_id(0) // out_blocks, tl.program_id(0) % out_blocks
    tile = _tile_of_row(storage_ptr, size, samples, row, first_col, cols, number, BLOCK_M)
    program = (table_ptr, None, constants_ptr)
    pointwise(program, table_ptr + task, tile, block, BLOCK_M, BLOCK)


def launch_row_product(
    batch: Batch, task: int, count: int, gated: bool, row: int, cols: range
) -> None:
    """Run a product of `count` outputs, or of `count` gates, at the columns of a row."""
    samples, size = batch.storage.shape
    config = batch.config
    out_blocks = triton.cdiv(count, config.out)
    _row_product_kernel[(triton.cdiv(samples * len(cols), config.positions) * out_blocks,)](
        batch.storage,
        batch.table,
        batch.weights,
        batch.constants,
        task,
        row,
        size,
        samples,
        cols.start,
        len(cols),
        out_blocks,
        GATED=gated,
        BLOCK_M=config.positions,
        BLOCK_OUT=config.out,
        BLOCK_K=config.inputs,
        PRECISION="ieee",
        num_warps=config.warps,
        num_stages=config.stages,
    )


def launch_row_pointwise(batch: Batch, task: int, count: int, row: int, cols: range) -> None:
    """Run a pointwise function of `count` outputs at the columns of a row."""
    samples, size = batch.storage.shape
    out_blocks = triton.cdiv(count, POINTWISE_LANES)
    _row_pointwise_kernel[(triton.cdiv(samples * len(cols), SAMPLES) * out_blocks,)](
        batch.storage,
        batch.table,
        batch.constants,
        task,
        row,
        size,
        samples,
        cols.start,
        len(cols),
        out_blocks,
        BLOCK_M=SAMPLES,
        BLOCK=POINTWISE_LANES,
    )
