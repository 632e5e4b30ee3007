"""The masked convolution as an implicit matrix product over the live blocks of its taps."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..configs import Config, choose_grad_weight, choose_product
from ..gate import tanh
from ..image import is_inside, positions_of_tile, strides
from ..precision import conv_precision, dot, input_precision
from .live_blocks import (
    Layer,
    Products,
    forward_products,
    grad_input_products,
    positions_in_products,
)

PROGRAMS = 512
"""The approximate number of programs of a weight gradient: several for each multiprocessor."""


@triton.jit
def _entry(table_ptr, entry, in_channels, BLOCK_IN: tl.constexpr, LANES: tl.constexpr):
    """Load a live block from the table of `live_blocks.Products`.

    Returns the offset of its tap in rows and columns, scalars or with lanes [BLOCK_IN]; and its
    channels, its rows of weights and the mask of the used ones, [BLOCK_IN] each.
    """
    lane = tl.arange(0, BLOCK_IN)
    if LANES:
        at = table_ptr + 4 * (entry * BLOCK_IN + lane)
        channel, weight_row = tl.load(at + 2), tl.load(at + 3)
        used = weight_row >= 0
    else:
        at = table_ptr + 4 * entry
        channel = tl.load(at + 2) * BLOCK_IN + lane  # the compiler can tell that it is aligned
        weight_row = tl.load(at + 3) + lane
        used = channel < in_channels
    return tl.load(at), tl.load(at + 1), channel, weight_row, used


@triton.jit
def _plus(total, bias_ptr, written, add_ptr, inside, HAS_BIAS: tl.constexpr, HAS_ADD: tl.constexpr):
    """Return total + bias + add of one tile."""
    if HAS_BIAS:
        total += tl.load(bias_ptr, mask=written, other=0.0)[None, :].to(tl.float32)
    if HAS_ADD:
        total += tl.load(add_ptr, mask=inside, other=0.0).to(tl.float32)
    return total


@triton.jit
def _masked_conv2d_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    add_ptr,
    out_ptr,
    gated_ptr,
    table_ptr,
    first_ptr,
    pixels: tl.int64,
    height,
    width,
    in_channels,
    out_channels,
    x_n: tl.int64,
    x_h: tl.int64,
    x_w: tl.int64,
    HAS_BIAS: tl.constexpr,
    HAS_ADD: tl.constexpr,
    GATED: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute out[p, o] = bias[o] + add[p, o] + sum of x[p + tap, k] w[k, o] over live blocks' k.

    One program computes a tile of pixels x output channels. If gated, it computes two tiles, for
    channels o and half + o, where `half` is half of the output channels, and also writes the tanh
    of the first times the sigmoid of the second. `x` is channels-last.
    """
    half = out_channels // 2 if GATED else out_channels
    out_blocks = tl.cdiv(half, BLOCK_OUT)
    tile, block = tl.program_id(0) // out_blocks, tl.program_id(0) % out_blocks
    pixel, image, row, col, exists = positions_of_tile(tile, pixels, height, width, BLOCK_P, INDEX)
    x_at = (x_ptr + image * x_n + row * x_h + col * x_w)[:, None]  # [P, 1]
    out = block * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    written = out < half
    total = tl.zeros([BLOCK_P, BLOCK_OUT], tl.float32)
    other = tl.zeros([BLOCK_P, BLOCK_OUT], tl.float32)
    for entry in range(tl.load(first_ptr + block), tl.load(first_ptr + block + 1)):
        down, right, channel, weight_row, used = _entry(
            table_ptr, entry, in_channels, BLOCK_IN, LANES
        )
        if LANES:
            down, right = down[None, :], right[None, :]
        seen = is_inside(row[:, None] + down, col[:, None] + right, exists[:, None], height, width)
        at = x_at + (down * x_h + right * x_w) + channel[None, :]
        x = tl.load(at, mask=seen & used[None, :], other=0.0)
        weight_at = weight_ptr + (weight_row * out_channels)[:, None] + out[None, :]
        live = used[:, None] & written[None, :]
        w = tl.load(weight_at, mask=live, other=0.0)
        total = dot(x, w, total, PRECISION)
        if GATED:
            w = tl.load(weight_at + half, mask=live, other=0.0)
            other = dot(x, w, other, PRECISION)
    at = (pixel * out_channels)[:, None] + out[None, :]
    inside = exists[:, None] & written[None, :]
    total = _plus(total, bias_ptr + out, written, add_ptr + at, inside, HAS_BIAS, HAS_ADD)
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask=inside)
    if GATED:
        other = _plus(
            other, bias_ptr + half + out, written, add_ptr + half + at, inside, HAS_BIAS, HAS_ADD
        )
        tl.store(out_ptr + half + at, other.to(out_ptr.dtype.element_ty), mask=inside)
        gated = (tanh(total) * tl.sigmoid(other)).to(gated_ptr.dtype.element_ty)
        tl.store(gated_ptr + (pixel * half)[:, None] + out[None, :], gated, mask=inside)


@triton.jit
def _masked_conv2d_grad_weight_kernel(
    x_ptr,
    grad_ptr,
    partial_ptr,
    table_ptr,
    owner_ptr,
    entries,
    pixels: tl.int64,
    tiles_a_split,
    height,
    width,
    in_channels,
    out_channels,
    x_n: tl.int64,
    x_h: tl.int64,
    x_w: tl.int64,
    LANES: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute partial[split, entry, k, o] = sum of x[p + tap, k] grad[p, o] over pixels p.

    p runs over the pixels of the split. The caller adds up the splits in a fixed order.
    """
    entry, split = tl.program_id(0) % entries, tl.program_id(0) // entries
    down, right, channel, _, used = _entry(table_ptr, entry, in_channels, BLOCK_IN, LANES)
    if LANES:
        down, right = down[:, None], right[:, None]
    step = (down * x_h + right * x_w) + channel[:, None]  # [BLOCK_IN, 1]
    out = tl.load(owner_ptr + entry) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    total = tl.zeros([BLOCK_IN, BLOCK_OUT], tl.float32)
    for tile in range(split * tiles_a_split, (split + 1) * tiles_a_split):
        pixel, image, row, col, exists = positions_of_tile(
            tile, pixels, height, width, BLOCK_P, INDEX
        )
        seen = is_inside(row[None, :] + down, col[None, :] + right, exists[None, :], height, width)
        x_at = x_ptr + (image * x_n + row * x_h + col * x_w)[None, :] + step
        x = tl.load(x_at, mask=seen & used[:, None], other=0.0)  # [BLOCK_IN, P]
        grad_at = grad_ptr + (pixel * out_channels)[:, None] + out[None, :]
        inside = exists[:, None] & (out < out_channels)[None, :]
        grad = tl.load(grad_at, mask=inside, other=0.0)  # [P, BLOCK_OUT]
        total = dot(x, grad, total, PRECISION)
    at = tl.program_id(0).to(tl.int64) * BLOCK_IN * BLOCK_OUT
    lane = tl.arange(0, BLOCK_IN)[:, None] * BLOCK_OUT + tl.arange(0, BLOCK_OUT)[None, :]
    tl.store(partial_ptr + at + lane, total)


def _packed(weight: Tensor, layer: Layer, order: tuple[int, int, int, int]) -> Tensor:
    """Return the weights as a matrix with zeros at dead taps.

    The first three dimensions of `order` are its rows, the last one its columns. `torch.where`
    clears dead taps even if they hold NaN or infinity.
    """
    return torch.where(layer.mask, weight, 0).permute(order).flatten(0, 2).contiguous()


def _index(pixels: int) -> tl.dtype:
    """Return the dtype of pixel numbers: 32 bits if they are enough, as they are faster."""
    return tl.int32 if pixels < 2**30 else tl.int64


def _launch_products(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    add: Tensor | None,
    out: Tensor,
    gated: Tensor | None,
    products: Products,
    config: Config,
) -> None:
    """Fill `out` and `gated`; `packed` has a row for each tap and channel of `x`."""
    images, in_channels, height, width = x.shape
    pixels = images * height * width
    grid = (triton.cdiv(pixels, config.pixels) * products.out_blocks,)
    _masked_conv2d_kernel[grid](
        x,
        packed,
        x if bias is None else bias,
        x if add is None else add,
        out,
        out if gated is None else gated,
        products.table,
        products.first,
        pixels,
        height,
        width,
        in_channels,
        out.shape[1],
        *strides(x),
        HAS_BIAS=bias is not None,
        HAS_ADD=add is not None,
        GATED=gated is not None,
        LANES=products.lanes,
        INDEX=_index(pixels),
        PRECISION=input_precision(conv_precision(x)),
        **config.launch_options(),
    )


def launch_masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    add: Tensor | None,
    out: Tensor,
    gated: Tensor | None,
    layer: Layer,
) -> None:
    """Fill `out` with ``masked_conv2d(x) + add``, and `gated` with its gate.

    `x` must be channels-last, with any stride between pixels; `add`, `out` and `gated` must be
    dense and channels-last.
    """
    out_channels, in_channels = weight.shape[:2]
    halves = 1 if gated is None else 2
    config = choose_product(conv_precision(x), in_channels, out_channels, gated is not None)
    products = forward_products(layer, halves, config.out, config.inputs)
    packed = _packed(weight, layer, (2, 3, 1, 0))
    _launch_products(x, packed, bias, add, out, gated, products, config)


def launch_grad_input(grad: Tensor, weight: Tensor, out: Tensor, layer: Layer) -> None:
    """Fill `out`, which is dense and channels-last, with the gradient of the input.

    `grad` must be channels-last, with any stride between pixels.
    """
    out_channels, in_channels = weight.shape[:2]
    config = choose_product(conv_precision(grad), out_channels, in_channels)
    products = grad_input_products(layer, config.out, config.inputs)
    packed = _packed(weight, layer, (2, 3, 0, 1))
    _launch_products(grad, packed, None, None, out, None, products, config)


def launch_grad_weight(x: Tensor, grad: Tensor, out: Tensor, layer: Layer) -> None:
    """Fill `out`, which is contiguous, with the gradient of the weight, deterministically.

    `x` must be channels-last, with any stride between pixels; `grad` must be dense and
    channels-last.
    """
    images, in_channels, height, width = x.shape
    precision = conv_precision(x)
    config = choose_grad_weight(precision, in_channels)
    sizes = config.out, config.inputs
    products = forward_products(layer, 1, *sizes)
    pixels = images * height * width
    tiles = triton.cdiv(pixels, config.pixels)
    splits = max(1, min(PROGRAMS // max(1, products.entries), tiles))
    tiles_a_split = triton.cdiv(tiles, splits)
    partial = x.new_empty(
        (splits, products.entries, config.inputs * config.out), dtype=torch.float32
    )
    if partial.numel():
        _masked_conv2d_grad_weight_kernel[(splits * products.entries,)](
            x,
            grad,
            partial,
            products.table,
            products.owner,
            products.entries,
            pixels,
            tiles_a_split,
            height,
            width,
            in_channels,
            grad.shape[1],
            *strides(x),
            LANES=products.lanes,
            INDEX=_index(pixels),
            PRECISION=input_precision(precision),
            **config.launch_options(),
        )
    place, live = positions_in_products(layer, *sizes)
    out.copy_(torch.where(live, partial.sum(0).flatten()[place], 0) if partial.numel() else 0)
