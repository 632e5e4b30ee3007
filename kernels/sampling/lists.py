"""Lists of tasks that run at one pixel after another."""

import triton
import triton.language as tl

from .rows import POINTWISE_LANES, SAMPLES, Batch
from .steps import FUSED_GATE, POINTWISE, pointwise, product


@triton.jit
def run_list(
    program,
    list_ptr,
    tile,
    BLOCKS: tl.constexpr,
    BLOCK_POINTWISE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Run the tasks of a list in order; see steps.py for `program`, `tile` and `BLOCKS`.

    There is a barrier before the first task and before any task that reads what others wrote.
    """
    table_ptr, _, _ = program
    first_ptr = table_ptr + tl.load(list_ptr)
    for number in range(tl.load(list_ptr + 1)):
        task_ptr = table_ptr + tl.load(first_ptr + 2 * number)
        if tl.load(first_ptr + 2 * number + 1) != 0:
            tl.debug_barrier()
        count = tl.load(task_ptr + 1)
        if tl.load(task_ptr) == POINTWISE:
            for block in range(tl.cdiv(count, BLOCK_POINTWISE)):
                pointwise(program, task_ptr, tile, block, BLOCKS[0], BLOCK_POINTWISE)
        elif tl.load(task_ptr + 2) == FUSED_GATE:
            for block in range(tl.cdiv(count, BLOCKS[1])):
                product(program, task_ptr, tile, block, True, BLOCKS, PRECISION)
        else:
            for block in range(tl.cdiv(count, BLOCKS[1])):
                product(program, task_ptr, tile, block, False, BLOCKS, PRECISION)


@triton.jit(
    do_not_specialize=["list_at", "row", "first_col", "cols", "direction", "size", "samples"]
)
def _columns_kernel(
    storage_ptr,
    table_ptr,
    weight_ptr,
    constants_ptr,
    list_at,
    row,
    first_col,
    cols,
    direction,
    size,
    samples,
    BLOCK_M: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_POINTWISE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Run a list at columns of a row, rightward or leftward, for a tile of samples."""
    exists = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M) < samples
    base = storage_ptr + (tl.program_id(0) * BLOCK_M).to(tl.int64) * size
    at = tl.arange(0, BLOCK_M) * size
    program = (table_ptr, weight_ptr, constants_ptr)
    BLOCKS: tl.constexpr = (BLOCK_M, BLOCK_OUT, BLOCK_K)
    for number in range(cols):
        tile = (base, at, exists, row, first_col + number * direction)
        run_list(program, table_ptr + list_at, tile, BLOCKS, BLOCK_POINTWISE, PRECISION)


def launch_columns(batch: Batch, list_at: int, row: int, cols: range) -> None:
    """Run a list at the columns of a row, in the order of `cols`.

    Args:
        list_at: the index of the list in the table.
        cols: a range with step 1 or -1.
    """
    samples, size = batch.storage.shape
    config = batch.config
    _columns_kernel[(triton.cdiv(samples, SAMPLES),)](
        batch.storage,
        batch.table,
        batch.weights,
        batch.constants,
        list_at,
        row,
        cols.start,
        len(cols),
        cols.step,
        size,
        samples,
        BLOCK_M=SAMPLES,
        BLOCK_OUT=config.pixel_out,
        BLOCK_K=config.inputs,
        BLOCK_POINTWISE=POINTWISE_LANES,
        PRECISION="ieee",
        num_warps=config.pixel_warps,
        num_stages=config.stages,
    )
