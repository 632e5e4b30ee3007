"""The pixels of a row of many images, drawn one after another in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..gumbel_noise import gumbel
from .lists import run_list
from .rows import POINTWISE_LANES, SAMPLES, Batch
from .steps import SPAN, span_at

LEVELS_OF_FOUR = 16
"""The number of groups of four levels whose noise is computed at once."""
LOWEST = tl.constexpr(-3.4028234663852886e38)
"""The lowest finite number of float32."""


@triton.jit
def _drawn(
    base,
    logits_at,
    exists,
    levels,
    seed,
    index,
    position,
    temperature,
    FOURS: tl.constexpr,
):
    """Return argmax(logits / temperature + noise), or argmax(logits) at temperature 0.

    The lowest level wins a tie. A level whose logit is -inf is never drawn: the scores of all other
    levels are clamped to finite numbers, in case a small temperature turns them into -inf.
    """
    low, high = index.to(tl.uint32)[:, None], (index >> 32).to(tl.uint32)[:, None]
    best = tl.zeros_like(index).to(tl.int32)
    highest = best.to(tl.float32) - float("inf")
    for first in range(0, levels, 4 * FOURS):
        level = first + tl.arange(0, 4 * FOURS)
        inside = exists[:, None] & (level < levels)[None, :]
        at = base + (logits_at[:, None] + level[None, :])
        logit = tl.load(at, mask=inside, other=float("-inf"))
        score = logit
        if temperature > 0:
            four = first // 4 + tl.arange(0, FOURS)
            noise = gumbel(seed, low, high, position.to(tl.uint32), four[None, :])
            score = tl.div_rn(logit, temperature) + noise
        score = tl.where(logit > float("-inf"), tl.maximum(score, LOWEST), float("-inf"))
        top, place = tl.max(score, 1, return_indices=True)
        best = tl.where(top > highest, first + place, best)
        highest = tl.maximum(top, highest)
    return best


@triton.jit(
    do_not_specialize=[
        *("row", "size", "samples", "known_size", "start", "stop", "resumes", "pauses"),
        *("height", "width", "colors", "levels", "lists", "logits", "image"),
        *("seed", "first_index", "temperature"),
    ]
)
def _pixels_kernel(
    storage_ptr,
    table_ptr,
    weight_ptr,
    constants_ptr,
    images_ptr,
    known_ptr,
    schedule_ptr,
    row,
    start,
    stop,
    resumes,
    pauses,
    size,
    known_size: tl.int64,
    samples,
    height,
    width,
    colors,
    levels,
    lists,
    logits,
    image,
    seed: tl.int64,
    first_index: tl.int64,
    temperature,
    BLOCK_M: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_POINTWISE: tl.constexpr,
    FOURS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Run stages of a row's pixels for a tile of samples, which only this program accesses.

    A pixel has colors + 2 stages: left, and color 0 .. colors. The kernel runs the stages from
    `start` up to `stop`, counted through the row. With `pauses`, the last stage ends before its
    draw. With `resumes`, the first stage continues after its tasks. Between two such launches the
    caller chooses the values.
    """
    sample = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    exists = sample < samples
    wide = sample.to(tl.int64)
    base = storage_ptr + (tl.program_id(0) * BLOCK_M).to(tl.int64) * size
    at = tl.arange(0, BLOCK_M) * size
    program = (table_ptr, weight_ptr, constants_ptr)
    BLOCKS: tl.constexpr = (BLOCK_M, BLOCK_OUT, BLOCK_K)
    stages = colors + 2
    for stage_of_row in range(start, stop):
        col, stage = stage_of_row // stages, stage_of_row % stages
        color = stage - 1
        tile = (base, at, exists, row, col)
        marks_ptr = schedule_ptr + (row * width + col) * (colors + 1)
        last_unknown = tl.load(marks_ptr)
        if (stage_of_row > start) | (resumes == 0):
            with_logits = tl.where(stage == 0, last_unknown >= 0, color <= last_unknown)
            list_ptr = table_ptr + lists + 2 * (2 * stage + with_logits.to(tl.int32))
            run_list(program, list_ptr, tile, BLOCKS, BLOCK_POINTWISE, PRECISION)
        draws_here = (stage > 0) & (color < colors)
        if draws_here & ((stage_of_row + 1 < stop) | (pauses == 0)):
            place = (color * height + row) * width + col
            image_at = images_ptr + wide * (colors * height * width) + place
            value = tl.load(image_at, mask=exists, other=0).to(tl.int32)
            chosen = (stage_of_row == start) & (resumes != 0)
            if (tl.load(marks_ptr + 1 + color) != 0) & (not chosen):
                tl.debug_barrier()
                logits_at = span_at(table_ptr + logits + SPAN * color, tile)
                position = (row * width + col) * colors + color
                drawn = _drawn(
                    base,
                    logits_at,
                    exists,
                    levels,
                    seed,
                    first_index + wide,
                    position,
                    temperature,
                    FOURS,
                )
                known = tl.load(known_ptr + wide * known_size + place, mask=exists, other=1)
                value = tl.where(known != 0, value, drawn)
                tl.store(image_at, value.to(tl.uint8), mask=exists)
            value_at = base + (span_at(table_ptr + image, tile) + color)
            tl.store(value_at, value.to(tl.float32), mask=exists)


def launch_pixels(
    batch: Batch,
    images: Tensor,
    known_mask: Tensor,
    schedule: Tensor,
    positions: tuple[int, int, int],
    levels: int,
    row: int,
    stages: range,
    resumes: bool,
    pauses: bool,
    seed: int,
    first_index: int,
    temperature: float,
) -> None:
    """Run stages of a row's pixels, and draw their values.

    Args:
        images: uint8 ``[samples, C, H, W]``.
        known_mask: bool ``[1 or samples, C, H, W]``.
        schedule: int32 ``[H, W, 1 + C]``: the last unknown color, then for each color whether it is
            unknown.
        positions: the indices of the lists, the logits and the image in the table.
        stages: the range of stages, counted through the row, C + 2 for each pixel.
        resumes: True if the caller has chosen the values of the first stage.
        pauses: True if the caller will choose the values of the last stage.
        temperature: the temperature, or 0 for the mode.
    """
    samples, size = batch.storage.shape
    _, colors, height, width = images.shape
    config = batch.config
    known_size = known_mask.stride(0) if len(known_mask) > 1 else 0
    _pixels_kernel[(triton.cdiv(samples, SAMPLES),)](
        batch.storage,
        batch.table,
        batch.weights,
        batch.constants,
        images,
        known_mask.view(torch.uint8),
        schedule,
        row,
        stages.start,
        stages.stop,
        int(resumes),
        int(pauses),
        size,
        known_size,
        samples,
        height,
        width,
        colors,
        levels,
        *positions,
        seed,
        first_index,
        float(temperature),
        BLOCK_M=SAMPLES,
        BLOCK_OUT=config.pixel_out,
        BLOCK_K=config.inputs,
        BLOCK_POINTWISE=POINTWISE_LANES,
        FOURS=LEVELS_OF_FOUR,
        PRECISION="ieee",
        num_warps=config.pixel_warps,
        num_stages=config.stages,
    )
