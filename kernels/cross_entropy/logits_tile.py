"""A tile of logits, pixels x levels of one color, for the cross-entropy kernels."""

import triton
import triton.language as tl

from ..precision import dot


@triton.jit
def _dot(x, weight, sums, WIDEN: tl.constexpr, PRECISION: tl.constexpr):
    """Add a product of tiles to `sums`; widen bfloat16, which the interpreter gets wrong."""
    if WIDEN:
        x, weight = x.to(tl.float32), weight.to(tl.float32)
    return dot(x, weight, sums, PRECISION)


@triton.jit
def _add_layer(
    sums,
    layer,
    pixel,
    output,
    in_pixels,
    in_levels,
    live,
    HAS_BIAS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    WIDEN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return ``sums + x @ weight.T + bias`` over the first `live` channels of a tile of logits.

    `live` may be odd, so a load mask that depends on it would prevent wide loads. Instead, the last
    block is loaded with its dead channels, which are then set to zero.
    """
    x_ptr, weight_ptr, bias_ptr, channels, strides = layer
    x_pixel, x_channel, weight_output, weight_channel = strides
    if HAS_BIAS:
        bias = tl.load(bias_ptr + output, mask=in_levels, other=0).to(tl.float32)
        sums += bias[None, :]
    x_at = x_ptr + pixel[:, None] * x_pixel
    weight_at = weight_ptr + output[None, :] * weight_output
    channel = tl.arange(0, BLOCK_K)
    whole = live // BLOCK_K * BLOCK_K  # the compiler can tell that it is aligned
    for first in range(0, whole, BLOCK_K):
        k = first + channel
        x = tl.load(x_at + k.to(tl.int64)[None, :] * x_channel, mask=in_pixels[:, None], other=0)
        weight = tl.load(weight_at + k[:, None] * weight_channel, mask=in_levels[None, :], other=0)
        sums = _dot(x, weight, sums, WIDEN, PRECISION)
    if whole < live:
        k = whole + channel
        there, some = k < channels, k < live
        in_x, in_weight = in_pixels[:, None] & there[None, :], there[:, None] & in_levels[None, :]
        x = tl.load(x_at + k.to(tl.int64)[None, :] * x_channel, mask=in_x, other=0)
        weight = tl.load(weight_at + k[:, None] * weight_channel, mask=in_weight, other=0)
        x, weight = tl.where(some[None, :], x, 0.0), tl.where(some[:, None], weight, 0.0)
        sums = _dot(x, weight, sums, WIDEN, PRECISION)
    return sums


@triton.jit
def logits_of_tile(
    x,
    a,
    pixel,
    in_pixels,
    level,
    color,
    levels,
    one_over_scale,
    COLORS: tl.constexpr,
    MASKED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_A: tl.constexpr,
    HAS_A_BIAS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_K: tl.constexpr,
    WIDEN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return (x @ weight.T + bias + a @ a_weight.T + a_bias) / scale of a tile.

    `x` and `a` are layers: pointers of the features, weight and bias, the number of channels, and
    a tuple of the strides of the features by pixel and channel, and of the weight by output and
    channel.
    """
    output = color * levels + level
    in_levels = level < levels
    at = pixel, output, in_pixels, in_levels
    channels = x[3]
    live = channels
    if MASKED:  # the channels of the colors up to this one
        live = (color + 1) * (channels // COLORS) + tl.minimum(color + 1, channels % COLORS)
    sums = tl.zeros([BLOCK_P, BLOCK_L], tl.float32)
    sums = _add_layer(sums, x, *at, live, HAS_BIAS, BLOCK_K, WIDEN, PRECISION)
    if HAS_A:
        sums = _add_layer(sums, a, *at, a[3], HAS_A_BIAS, BLOCK_K, WIDEN, PRECISION)
    return sums * one_over_scale


@triton.jit
def position_of_tile(
    tile, color, targets_ptr, pixels, target_pixel, target_color, BLOCK_P: tl.constexpr
):
    """Return the pixels of a tile, the mask of those that exist, and their targets."""
    pixel = tile.to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    in_pixels = pixel < pixels
    at = targets_ptr + pixel * target_pixel + color * target_color
    return pixel, in_pixels, tl.load(at, mask=in_pixels, other=0).to(tl.int32)
