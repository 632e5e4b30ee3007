"""The kernel of the recurrences' gradients; wavefronts.py explains how it divides the work."""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from ..configs import choose_lstm_grad
from ..gate import tanh
from ..image import is_inside, strides
from ..precision import dot, matmul_precision
from .wavefronts import (
    SHARE,
    cells_of,
    is_alone,
    load,
    options,
    position_of,
    samples_of,
    shares,
    store,
    wavefront_of,
)


@triton.jit(do_not_specialize=SHARE)
def _lstm_grad_kernel(
    grad_ptr,
    weight_ptr,
    initial_ptr,
    cell_ptr,
    activations_ptr,
    grad_gates_ptr,
    of_cell_ptr,
    batch,
    height,
    width,
    channels,
    taps,
    border,
    states,
    samples,
    works,
    first_wavefront,
    last_wavefront,
    grad_n: tl.int64,
    grad_h: tl.int64,
    grad_w: tl.int64,
    DIAGONAL: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    OPERANDS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute of_hidden = grad + sum over taps of grad_gates[the cell that reads it by the tap] w.

    From it and the carried gradient of the cell state follow the gradients of the gates and of the
    predecessor's cell state. The weights are a matrix with a row for each tap and gate. Wavefronts
    are counted from the last one.
    """
    first_sample, own_samples = samples_of(samples, works, batch)
    parts = 4 * channels
    out_blocks, in_blocks = tl.cdiv(channels, BLOCK_OUT), tl.cdiv(parts, BLOCK_IN)
    for later in range(first_wavefront, last_wavefront):
        wavefront = height - 1 - later
        if DIAGONAL:
            wavefront += width - 1
        _, count = wavefront_of(wavefront, height, width, DIAGONAL)
        all_works = tl.cdiv(own_samples * count, BLOCK_P) * out_blocks
        for work in range(tl.program_id(0) % works, all_works, works):
            sample, state, row, col, pixel, exists, out, written = cells_of(
                work,
                wavefront,
                first_sample,
                own_samples,
                height,
                width,
                channels,
                DIAGONAL,
                REVERSE,
                BLOCK_P,
                BLOCK_OUT,
            )
            of_hidden = tl.zeros([BLOCK_P, BLOCK_OUT], tl.float32)
            for step in range(taps * in_blocks):
                tap = step // in_blocks
                k = step % in_blocks * BLOCK_IN + tl.arange(0, BLOCK_IN)
                down, right = position_of(tap, border, DIAGONAL, REVERSE)
                seen = is_inside(row - down, col - right, exists, height, width)
                at = ((pixel - (down * width + right)) * parts)[:, None] + k[None, :]
                used = k < parts
                x = tl.load(grad_gates_ptr + at, mask=seen[:, None] & used[None, :], other=0)
                at = weight_ptr + ((tap * parts + k) * channels)[:, None] + out[None, :]
                w = tl.load(at, mask=used[:, None] & written[None, :], other=0)
                x, w = x.to(OPERANDS), w.to(OPERANDS)
                of_hidden = dot(x, w, of_hidden, PRECISION)
            inside = exists[:, None] & written[None, :]
            at = grad_ptr + (sample * grad_n + row * grad_h + col * grad_w)[:, None]
            of_hidden += load(at + out[None, :], inside)
            at = (pixel * channels)[:, None] + out[None, :]
            now = load(cell_ptr + at, inside)
            down, right = position_of(border, border, DIAGONAL, REVERSE)
            goes_on = is_inside(row - down, col - right, exists, height, width)
            began = is_inside(row + down, col + right, exists, height, width)[:, None]
            began = began & written[None, :]
            before = load(cell_ptr + at + (down * width + right) * channels, began)
            first = load(initial_ptr + channels + out, written)
            before = tl.where(began, before, first[None, :])
            at = (pixel * parts)[:, None] + out[None, :]
            o = load(activations_ptr + at, inside)
            f = load(activations_ptr + at + channels, inside)
            i = load(activations_ptr + at + 2 * channels, inside)
            g = load(activations_ptr + at + 3 * channels, inside)
            of_cell = of_cell_ptr + ((sample * states + state) * channels)[:, None] + out[None, :]
            # tanh' = 4 sigmoid(2 c) sigmoid(-2 c) avoids cancellation for large cell states.
            of_now = of_hidden * o * (4 * tl.sigmoid(2 * now) * tl.sigmoid(-2 * now))
            of_now += load(of_cell, goes_on[:, None] & written[None, :])
            store(of_cell, of_now * f, inside)
            at = grad_gates_ptr + at
            store(at, of_hidden * tanh(now) * o * (1 - o), inside)
            store(at + channels, of_now * before * f * (1 - f), inside)
            store(at + 2 * channels, of_now * g * i * (1 - i), inside)
            store(at + 3 * channels, of_now * i * (1 - g * g), inside)
        tl.debug_barrier()  # the next wavefront reads what other threads wrote in this one


def launch_lstm_grad(
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    cell: Tensor,
    activations: Tensor,
    grad_gates: Tensor,
    cells: Sequence[int],
    diagonal: bool,
    reverse: bool,
) -> Tensor:
    """Fill `grad_gates` and return the gradient of the initial cell state, ``[h]``, in float32.

    `grad` must be channels-last, with any stride between cells; `initial` must be contiguous; the
    other maps must be dense and channels-last.

    Args:
        cells: the number of cells of each wavefront.
    """
    batch, channels, height, width = grad.shape
    taps, carried = weight.shape[2], height if diagonal else width
    of_cell = cell.new_empty((batch, carried, channels))
    alone = is_alone(grad, weight)
    config = choose_lstm_grad(matmul_precision(grad), alone, channels)
    packed = weight.permute(2, 0, 1).contiguous()  # [taps, 4 h, h]
    for programs, *share in shares(cells, grad, config, alone):
        _lstm_grad_kernel[(programs,)](
            grad,
            packed,
            initial,
            cell,
            activations,
            grad_gates,
            of_cell,
            batch,
            height,
            width,
            channels,
            taps,
            1 if diagonal else taps // 2,
            carried,
            *share,
            *strides(grad),
            **options(grad, config, diagonal, reverse),
        )
    return of_cell.sum((0, 1))
