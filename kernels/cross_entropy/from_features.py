"""The cross-entropy of pixels from features; only a tile of logits at a time is in registers."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..configs import HALF, IEEE, TF32, Config
from ..precision import input_precision, matmul_precision
from .logits_tile import logits_of_tile, position_of_tile

FORWARD: dict[tuple[str, str], Config] = {
    (HALF, "many"): Config(64, 128, 64, 4, 3, "two programs at once: products beside exponentials"),
    (HALF, "few"): Config(64, 16, 64, 4, 4, "reading the features is the work: more in flight"),
    (TF32, "many"): Config(64, 64, 32, 4, 3, "the bytes of 16 bits; twice the registers a product"),
    (TF32, "few"): Config(128, 16, 32, 4, 4, "the bytes of 16 bits, half as many channels"),
    (IEEE, "many"): Config(64, 64, 16, 8, 3, "no matrix instructions: 16 sums a thread"),
    (IEEE, "few"): Config(32, 16, 16, 4, 3, "no matrix instructions: 4 sums a thread"),
}
"""The forward configs by precision and number of levels; `out` counts levels, `inputs` channels.
With more levels per tile, features would be read less often, but registers would spill."""

GRAD = FORWARD | {
    (HALF, "many"): Config(64, 64, 64, 4, 3, "addresses of what is written need registers too")
}

FEW = 16
"""The largest number of levels for the configs named "few"."""

Layer = tuple[Tensor, Tensor, Tensor | None]
"""A 1x1 convolution as a matrix product: x ``[P, K]``, weight ``[out, K]``, bias ``[out]``."""


@triton.jit
def _pixel_cross_entropy_kernel(
    nll_ptr,
    log_sums_ptr,
    targets_ptr,
    x_ptr,
    weight_ptr,
    bias_ptr,
    a_ptr,
    a_weight_ptr,
    a_bias_ptr,
    pixels: tl.int64,
    levels,
    channels,
    a_channels,
    one_over_scale,
    target_pixel: tl.int64,
    target_color,
    x_pixel: tl.int64,
    x_channel,
    weight_output,
    weight_channel,
    a_pixel: tl.int64,
    a_channel,
    a_weight_output,
    a_weight_channel,
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
    """Compute log sum exp(logits), and the nll from it, of one color of a tile of pixels.

    The logits are (x @ weight.T + bias + a @ a_weight.T + a_bias) / scale. The first product may be
    masked, and the second may be missing.
    """
    color = tl.program_id(0) % COLORS
    tile = tl.program_id(0) // COLORS
    pixel, in_pixels, target = position_of_tile(
        tile, color, targets_ptr, pixels, target_pixel, target_color, BLOCK_P
    )
    strides = x_pixel, x_channel, weight_output, weight_channel
    a_strides = a_pixel, a_channel, a_weight_output, a_weight_channel
    x = x_ptr, weight_ptr, bias_ptr, channels, strides
    a = a_ptr, a_weight_ptr, a_bias_ptr, a_channels, a_strides
    peak = tl.full([BLOCK_P], float("-inf"), tl.float32)
    total, hit = tl.zeros([BLOCK_P], tl.float32), tl.zeros([BLOCK_P], tl.float32)
    # Addresses hoisted out of the loop would spill registers.
    for first in tl.range(0, levels, BLOCK_L, disable_licm=True):
        level = first + tl.arange(0, BLOCK_L)
        logits = logits_of_tile(
            x,
            a,
            pixel,
            in_pixels,
            level,
            color,
            levels,
            one_over_scale,
            COLORS,
            MASKED,
            HAS_BIAS,
            HAS_A,
            HAS_A_BIAS,
            BLOCK_P,
            BLOCK_L,
            BLOCK_K,
            WIDEN,
            PRECISION,
        )
        seen = tl.where((level < levels)[None, :], logits, float("-inf"))
        higher = tl.maximum(peak, tl.max(seen, 1))
        total = total * tl.exp(peak - higher) + tl.sum(tl.exp(seen - higher[:, None]), 1)
        hit += tl.sum(tl.where(level[None, :] == target[:, None], logits, 0.0), 1)
        peak = higher
    log_sum = peak + tl.log(total)
    out = pixel * COLORS + color
    tl.store(log_sums_ptr + out, log_sum, mask=in_pixels)
    tl.store(nll_ptr + out, log_sum - hit, mask=in_pixels)


@triton.jit
def _pixel_cross_entropy_grad_kernel(
    of_logits_ptr,
    add_ptr,
    grad_ptr,
    log_sums_ptr,
    targets_ptr,
    x_ptr,
    weight_ptr,
    bias_ptr,
    a_ptr,
    a_weight_ptr,
    a_bias_ptr,
    pixels: tl.int64,
    levels,
    channels,
    a_channels,
    one_over_scale,
    target_pixel: tl.int64,
    target_color,
    x_pixel: tl.int64,
    x_channel,
    weight_output,
    weight_channel,
    a_pixel: tl.int64,
    a_channel,
    a_weight_output,
    a_weight_channel,
    HAS_ADD: tl.constexpr,
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
    """Compute grad (softmax(logits) - onehot) / scale + add of a tile, pixels x levels of a color.

    The logits are recomputed as in the forward kernel; softmax is exp(logits - log_sums).
    """
    tiles = tl.cdiv(levels, BLOCK_L)
    color = tl.program_id(0) // tiles % COLORS
    tile = tl.program_id(0) // tiles // COLORS
    pixel, in_pixels, target = position_of_tile(
        tile, color, targets_ptr, pixels, target_pixel, target_color, BLOCK_P
    )
    strides = x_pixel, x_channel, weight_output, weight_channel
    a_strides = a_pixel, a_channel, a_weight_output, a_weight_channel
    x = x_ptr, weight_ptr, bias_ptr, channels, strides
    a = a_ptr, a_weight_ptr, a_bias_ptr, a_channels, a_strides
    level = tl.program_id(0) % tiles * BLOCK_L + tl.arange(0, BLOCK_L)
    logits = logits_of_tile(
        x,
        a,
        pixel,
        in_pixels,
        level,
        color,
        levels,
        one_over_scale,
        COLORS,
        MASKED,
        HAS_BIAS,
        HAS_A,
        HAS_A_BIAS,
        BLOCK_P,
        BLOCK_L,
        BLOCK_K,
        WIDEN,
        PRECISION,
    )
    log_sum = tl.load(log_sums_ptr + pixel * COLORS + color, mask=in_pixels, other=0)
    grad = tl.load(grad_ptr + pixel, mask=in_pixels, other=0) * one_over_scale
    onehot = tl.where(level[None, :] == target[:, None], 1.0, 0.0)
    of_logits = (tl.exp(logits - log_sum[:, None]) - onehot) * grad[:, None]
    at = pixel[:, None] * (COLORS * levels) + (color * levels + level)[None, :]
    exists = in_pixels[:, None] & (level < levels)[None, :]
    if HAS_ADD:
        of_logits += tl.load(add_ptr + at, mask=exists, other=0).to(tl.float32)
    tl.store(of_logits_ptr + at, of_logits.to(of_logits_ptr.dtype.element_ty), mask=exists)


def launch_pixel_cross_entropy(
    nll: Tensor,
    log_sums: Tensor,
    targets: Tensor,
    prior: Layer,
    conditioning: Layer | None,
    scale: float,
) -> None:
    """Fill `nll` and `log_sums`, float32 ``[T, P, C]``, contiguous within a term.

    Args:
        targets: uint8 ``[P, C]``. Targets, and x and weight of the layers, may have any strides.
    """
    config = _choose(FORWARD, prior, targets)
    grid = (triton.cdiv(len(targets), config.pixels) * targets.shape[1],)
    for term, logits in enumerate(_terms(prior, conditioning, scale)):
        _pixel_cross_entropy_kernel[grid](
            nll[term], log_sums[term], **_arguments(config, targets, *logits)
        )


def launch_pixel_cross_entropy_grad(
    of_logits: Sequence[Tensor],
    grad: Tensor,
    log_sums: Tensor,
    targets: Tensor,
    prior: Layer,
    conditioning: Layer | None,
    scale: float,
) -> None:
    """Fill `of_logits`, contiguous ``[P, C * L]`` each, for B and, if there is A, for A.

    Args:
        grad: the gradient of the nll, float32 and contiguous ``[T, P]``.
        log_sums: the result of the forward kernel.
    """
    config = _choose(GRAD, prior, targets)
    levels = len(prior[1]) // targets.shape[1]
    tiles = triton.cdiv(len(targets), config.pixels), triton.cdiv(levels, config.out)
    grid = (tiles[0] * targets.shape[1] * tiles[1],)
    for term, logits in enumerate(_terms(prior, conditioning, scale)):
        _pixel_cross_entropy_grad_kernel[grid](
            of_logits[term],
            of_logits[0],  # A's logits are part of the first term too
            grad[term],
            log_sums[term],
            HAS_ADD=term == 1,
            **_arguments(config, targets, *logits),
        )


def _terms(
    prior: Layer, conditioning: Layer | None, scale: float
) -> list[tuple[Layer, Layer | None, bool, float]]:
    """Return each term's layer, a layer to add, whether the first is masked, and the divisor."""
    if conditioning is None:
        return [(prior, None, True, 1.0)]
    return [(prior, conditioning, True, 1.0), (conditioning, None, False, scale)]


def _choose(table: dict[tuple[str, str], Config], prior: Layer, targets: Tensor) -> Config:
    x, weight, _ = prior
    levels = len(weight) // targets.shape[1]
    return table[matmul_precision(x), "few" if levels <= FEW else "many"]


def _arguments(
    config: Config, targets: Tensor, layer: Layer, other: Layer | None, masked: bool, scale: float
) -> dict[str, Any]:
    """Return the arguments that the forward and the gradient kernel have in common."""
    a = layer if other is None else other  # a placeholder, which the kernel does not read
    (x, weight, bias), (a_x, _, a_bias) = layer, a
    return {
        "targets_ptr": targets,
        **_of_layer(layer, "x", "weight", "bias"),
        **_of_layer(a, "a", "a_weight", "a_bias"),
        "pixels": len(targets),
        "levels": len(weight) // targets.shape[1],
        "channels": x.shape[1],
        "a_channels": a_x.shape[1],
        "one_over_scale": 1 / scale,
        "target_pixel": targets.stride(0),
        "target_color": targets.stride(1),
        "COLORS": targets.shape[1],
        "MASKED": masked,
        "HAS_BIAS": bias is not None,
        "HAS_A": other is not None,
        "HAS_A_BIAS": a_bias is not None,
        "BLOCK_P": config.pixels,
        "BLOCK_L": config.out,
        "BLOCK_K": config.inputs,
        "WIDEN": triton.knobs.runtime.interpret and x.dtype == torch.bfloat16,
        "PRECISION": input_precision(matmul_precision(x)),
        "num_warps": config.warps,
        "num_stages": config.stages,
    }


def _of_layer(layer: Layer, x_name: str, weight_name: str, bias_name: str) -> dict[str, Any]:
    x, weight, bias = layer
    return {
        f"{x_name}_ptr": x,
        f"{weight_name}_ptr": weight,
        f"{bias_name}_ptr": weight if bias is None else bias,
        f"{x_name}_pixel": x.stride(0),
        f"{x_name}_channel": x.stride(1),
        f"{weight_name}_output": weight.stride(0),
        f"{weight_name}_channel": weight.stride(1),
    }
