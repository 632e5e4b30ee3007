"""The forward kernel of the recurrences; wavefronts.py explains how it divides the work."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..configs import choose_lstm
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
def _lstm_kernel(
    gates_ptr,
    weight_ptr,
    edge_ptr,
    initial_ptr,
    hidden_ptr,
    cell_ptr,
    activations_ptr,
    batch,
    height,
    width,
    channels,
    taps,
    border,
    samples,
    works,
    first_wavefront,
    last_wavefront,
    gates_n: tl.int64,
    gates_h: tl.int64,
    gates_w: tl.int64,
    cell_n: tl.int64,
    cell_h: tl.int64,
    cell_w: tl.int64,
    edge_state,
    DIAGONAL: tl.constexpr,
    REVERSE: tl.constexpr,
    KEEP: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    OPERANDS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute o, f, i, g = gates + sum of hidden[tap] w;  c = f c + i g;  hidden = o tanh(c).

    The sum is over taps, and the activations of the gates are omitted above. The weights are a
    matrix with a row for each tap and input channel. Hidden states outside the image are read as
    zero; `edge` holds the initial state's contribution to the gates. If nothing is kept, strides of
    zero let all cells that continue one state share its memory.
    """
    first_sample, own_samples = samples_of(samples, works, batch)
    out_blocks, in_blocks = tl.cdiv(channels, BLOCK_OUT), tl.cdiv(channels, BLOCK_IN)
    for wavefront in range(first_wavefront, last_wavefront):
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
            o = tl.zeros([BLOCK_P, BLOCK_OUT], tl.float32)
            f = tl.zeros([BLOCK_P, BLOCK_OUT], tl.float32)
            i = tl.zeros([BLOCK_P, BLOCK_OUT], tl.float32)
            g = tl.zeros([BLOCK_P, BLOCK_OUT], tl.float32)
            for step in range(taps * in_blocks):
                tap = step // in_blocks
                k = step % in_blocks * BLOCK_IN + tl.arange(0, BLOCK_IN)
                down, right = position_of(tap, border, DIAGONAL, REVERSE)
                seen = is_inside(row + down, col + right, exists, height, width)
                at = ((pixel + (down * width + right)) * channels)[:, None] + k[None, :]
                used = k < channels
                x = tl.load(hidden_ptr + at, mask=seen[:, None] & used[None, :], other=0)
                x = x.to(OPERANDS)
                at = weight_ptr + ((tap * channels + k) * (4 * channels))[:, None] + out[None, :]
                live = used[:, None] & written[None, :]
                w = tl.load(at, mask=live, other=0)
                o = dot(x, w.to(OPERANDS), o, PRECISION)
                w = tl.load(at + channels, mask=live, other=0)
                f = dot(x, w.to(OPERANDS), f, PRECISION)
                w = tl.load(at + 2 * channels, mask=live, other=0)
                i = dot(x, w.to(OPERANDS), i, PRECISION)
                w = tl.load(at + 3 * channels, mask=live, other=0)
                g = dot(x, w.to(OPERANDS), g, PRECISION)
            inside = exists[:, None] & written[None, :]
            down, right = position_of(border, border, DIAGONAL, REVERSE)
            goes_on = is_inside(row + down, col + right, exists, height, width)[:, None]
            goes_on = goes_on & written[None, :]
            starts = inside & (goes_on == 0)
            at = gates_ptr + (sample * gates_n + row * gates_h + col * gates_w)[:, None]
            at += out[None, :]
            edge = edge_ptr + (state * edge_state)[:, None] + out[None, :]
            o = tl.sigmoid(o + load(at, inside) + load(edge, starts))
            f = tl.sigmoid(f + load(at + channels, inside) + load(edge + channels, starts))
            i = tl.sigmoid(i + load(at + 2 * channels, inside) + load(edge + 2 * channels, starts))
            g = tanh(g + load(at + 3 * channels, inside) + load(edge + 3 * channels, starts))
            cell = cell_ptr + (sample * cell_n + row * cell_h + col * cell_w)[:, None]
            cell += out[None, :]
            before = load(cell + (down * cell_h + right * cell_w), goes_on)
            first = load(initial_ptr + channels + out, written)
            now = f * tl.where(goes_on, before, first[None, :]) + i * g
            store(cell, now, inside)
            at = (pixel * channels)[:, None] + out[None, :]
            store(hidden_ptr + at, o * tanh(now), inside)
            if KEEP:
                at = activations_ptr + (pixel * channels * 4)[:, None] + out[None, :]
                store(at, o, inside)
                store(at + channels, f, inside)
                store(at + 2 * channels, i, inside)
                store(at + 3 * channels, g, inside)
        tl.debug_barrier()  # the next wavefront reads what other threads wrote in this one


def launch_lstm(
    gates: Tensor,
    weight: Tensor,
    initial: Tensor,
    edge: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
    cells: Sequence[int],
    diagonal: bool,
    reverse: bool,
) -> None:
    """Fill `hidden`, and `cell` and `activations` unless they are empty.

    These are dense and channels-last. `gates` must be channels-last, with any stride between cells;
    `initial` must be contiguous.

    Args:
        edge: the initial hidden state's contribution to the gates at the edge.
        cells: the number of cells of each wavefront.
    """
    batch, channels, height, width = hidden.shape
    keep, taps = cell.numel() > 0, weight.shape[2]
    cell = cell if keep else _carried(gates, hidden, diagonal)
    alone = is_alone(gates, weight)
    config = choose_lstm(matmul_precision(gates), alone, channels)
    packed = weight.permute(2, 1, 0).contiguous()  # [taps, h, 4 h]
    for programs, *share in shares(cells, hidden, config, alone):
        _lstm_kernel[(programs,)](
            gates,
            packed,
            edge,
            initial,
            hidden,
            cell,
            activations if keep else gates,
            batch,
            height,
            width,
            channels,
            taps,
            1 if diagonal else taps // 2,
            *share,
            *strides(gates),
            *strides(cell),
            0 if diagonal else 4 * channels,
            KEEP=keep,
            **options(gates, config, diagonal, reverse),
        )


def _carried(gates: Tensor, hidden: Tensor, diagonal: bool) -> Tensor:
    """Return memory for the carried cell states only, expanded to the shape of all cells."""
    batch, channels, height, width = hidden.shape
    carried = gates.new_empty((batch, height if diagonal else width, channels), dtype=torch.float32)
    carried = carried.transpose(1, 2)
    carried = carried[:, :, :, None] if diagonal else carried[:, :, None]
    return carried.expand(batch, channels, height, width)
