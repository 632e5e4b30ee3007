"""The search for logits that cannot be sampled from, in a drawn row of many images."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .rows import SAMPLES, Batch
from .steps import SPAN, span_at

LEVELS = 64
"""The number of levels that a program reads at once."""


@triton.jit
def _kinds(base, logits_at, exists, levels, BLOCK: tl.constexpr):
    """Return the kind of each value's logits, numbered as in csrc/common/argmax.h.

    The kind is the maximum over the levels of 0 for -inf, 1 for finite, 2 for +inf, 3 for NaN.
    """
    kinds = tl.zeros_like(logits_at).to(tl.int32)
    for first in range(0, levels, BLOCK):
        level = first + tl.arange(0, BLOCK)[None, :]
        inside = exists[:, None] & (level < levels)
        logit = tl.load(base + (logits_at[:, None] + level), mask=inside, other=float("-inf"))
        kind = (logit > float("-inf")).to(tl.int32) + (logit == float("inf"))
        kinds = tl.maximum(kinds, tl.max(tl.where(logit == logit, kind, 3), 1))
    return kinds


@triton.jit(
    do_not_specialize=[
        *("row", "first_col", "cols", "size", "known_size", "samples"),
        *("height", "width", "colors", "levels", "logits"),
    ]
)
def _faults_kernel(
    storage_ptr,
    table_ptr,
    known_ptr,
    schedule_ptr,
    faults_ptr,
    row,
    first_col,
    cols,
    size,
    known_size: tl.int64,
    samples,
    height,
    width,
    colors,
    levels,
    logits,
    BLOCK_M: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Check one value of a row for a tile of samples."""
    tile, value = tl.program_id(0) // (cols * colors), tl.program_id(0) % (cols * colors)
    col, color = first_col + value // colors, value % colors
    marks_ptr = schedule_ptr + (row * width + col) * (colors + 1)
    if tl.load(marks_ptr + 1 + color) != 0:
        sample = (tile * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
        exists = sample < samples
        place = (color * height + row) * width + col
        known = tl.load(known_ptr + sample * known_size + place, mask=exists, other=1)
        base = storage_ptr + (tile * BLOCK_M).to(tl.int64) * size
        at = tl.arange(0, BLOCK_M) * size
        logits_at = span_at(table_ptr + logits + SPAN * color, (base, at, exists, row, col))
        kind = _kinds(base, logits_at, exists, levels, BLOCK)
        position = ((row * width + col) * colors + color).to(tl.int64)
        faulty = (known == 0) & (kind != 1)
        tl.atomic_min(faults_ptr + sample, 4 * position + kind, mask=faulty)


def launch_faults(
    batch: Batch,
    known_mask: Tensor,
    schedule: Tensor,
    faults: Tensor,
    logits: int,
    colors: int,
    levels: int,
    row: int,
    cols: range,
) -> None:
    """Record the first fault of each sample among the drawn values of a row.

    Args:
        known_mask: bool ``[1 or samples, C, H, W]``.
        schedule: int32 ``[H, W, 1 + C]``, as in `launch_pixels`.
        faults: int64 ``[samples]``, lowered to 4 * position + kind for a value that cannot be
            drawn, with kind 0 (-inf at every level), 2 (+inf) or 3 (NaN).
        logits: the index in the table of the spans of the logits.
    """
    samples, size = batch.storage.shape
    height, width = known_mask.shape[2:]
    _faults_kernel[(triton.cdiv(samples, SAMPLES) * len(cols) * colors,)](
        batch.storage,
        batch.table,
        known_mask.view(torch.uint8),
        schedule,
        faults,
        row,
        cols.start,
        len(cols),
        size,
        known_mask.stride(0) if len(known_mask) > 1 else 0,
        samples,
        height,
        width,
        colors,
        levels,
        logits,
        BLOCK_M=SAMPLES,
        BLOCK=LEVELS,
    )
