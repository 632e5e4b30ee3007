"""The cross-entropy of pixels and its gradient, in one pass over given logits."""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from ..configs import Config

LOGITS = Config(8, 256, 1, 4, 1, "all levels of 8 pixels, 16 a thread: four addresses for each")
"""The config of the kernel. It has no matrix product, so `inputs` is unused."""


@triton.jit
def _pixel_cross_entropy_with_logits_kernel(
    nll_ptr,
    of_total_ptr,
    of_alone_ptr,
    images_ptr,
    logits_ptr,
    a_ptr,
    pixels: tl.int64,
    width,
    height,
    levels,
    one_over_scale,
    image_n: tl.int64,
    image_c: tl.int64,
    image_h: tl.int64,
    image_w: tl.int64,
    logits_n: tl.int64,
    logits_l,
    logits_c: tl.int64,
    logits_h: tl.int64,
    logits_w: tl.int64,
    a_n: tl.int64,
    a_l,
    a_c: tl.int64,
    a_h: tl.int64,
    a_w: tl.int64,
    of_total_n: tl.int64,
    of_total_l,
    of_total_c: tl.int64,
    of_total_h: tl.int64,
    of_total_w: tl.int64,
    of_alone_n: tl.int64,
    of_alone_l,
    of_alone_c: tl.int64,
    of_alone_h: tl.int64,
    of_alone_w: tl.int64,
    COLORS: tl.constexpr,
    HAS_A: tl.constexpr,
    NEEDS_GRAD: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """Compute the nll of one color of a tile of pixels, and its gradient for each term.

    The gradients are softmax(A + B) - onehot, and (softmax(A / scale) - onehot) / scale.
    """
    color = (tl.program_id(0) % COLORS).to(tl.int64)
    pixel = (tl.program_id(0) // COLORS).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    in_pixels = pixel < pixels
    n, h, w = pixel // width // height, pixel // width % height, pixel % width
    level = tl.arange(0, BLOCK_L).to(tl.int64)
    exists = in_pixels[:, None] & (level < levels)[None, :]
    target = tl.load(
        images_ptr + n * image_n + color * image_c + h * image_h + w * image_w,
        mask=in_pixels,
        other=0,
    )
    is_target = level[None, :] == target.to(tl.int32)[:, None]
    place = (n * logits_n + color * logits_c + h * logits_h + w * logits_w)[:, None]
    logits = tl.load(logits_ptr + place + level[None, :] * logits_l, mask=exists, other=0)
    logits = logits.to(tl.float32)
    out = pixel * COLORS + color
    if HAS_A:
        place = (n * a_n + color * a_c + h * a_h + w * a_w)[:, None]
        a = tl.load(a_ptr + place + level[None, :] * a_l, mask=exists, other=0).to(tl.float32)
        logits += a
        nll, grad = _nll(a * one_over_scale, level, levels, is_target)
        tl.store(nll_ptr + pixels * COLORS + out, nll, mask=in_pixels)
        if NEEDS_GRAD:
            place = n * of_alone_n + color * of_alone_c + h * of_alone_h + w * of_alone_w
            at = of_alone_ptr + place[:, None] + level[None, :] * of_alone_l
            grad *= one_over_scale
            tl.store(at, grad.to(of_alone_ptr.dtype.element_ty), mask=exists)
    nll, grad = _nll(logits, level, levels, is_target)
    tl.store(nll_ptr + out, nll, mask=in_pixels)
    if NEEDS_GRAD:
        place = n * of_total_n + color * of_total_c + h * of_total_h + w * of_total_w
        at = of_total_ptr + place[:, None] + level[None, :] * of_total_l
        tl.store(at, grad.to(of_total_ptr.dtype.element_ty), mask=exists)


@triton.jit
def _nll(logits, level, levels, is_target):
    """Return the nll of a tile's pixels, and softmax - onehot."""
    seen = tl.where((level < levels)[None, :], logits, float("-inf"))
    peak = tl.max(seen, 1)
    p = tl.exp(seen - peak[:, None])
    total = tl.sum(p, 1)
    nll = peak + tl.log(total) - tl.sum(tl.where(is_target, logits, 0.0), 1)
    return nll, p / total[:, None] - tl.where(is_target, 1.0, 0.0)


def launch_pixel_cross_entropy_with_logits(
    nll: Tensor,
    grads: Sequence[Tensor],
    images: Tensor,
    logits: Tensor,
    conditioning: Tensor | None,
    scale: float,
) -> None:
    """Fill `nll`, float32 and contiguous ``[T, N, H, W, C]``, and `grads`.

    Args:
        grads: the gradients of logits and conditioning, ``[N, L, C, H, W]`` with any strides; or
            empty.
        images: uint8 ``[N, C, H, W]``, any strides.
    """
    n, levels, colors, height, width = logits.shape
    a = logits if conditioning is None else conditioning
    of_total, of_alone = (grads[0], grads[-1]) if grads else (logits, a)  # placeholders
    pixels = n * height * width
    given = images, logits, a, of_total, of_alone
    _pixel_cross_entropy_with_logits_kernel[(triton.cdiv(pixels, LOGITS.pixels) * colors,)](
        nll,
        of_total,
        of_alone,
        images,
        logits,
        a,
        pixels,
        width,
        height,
        levels,
        1 / scale,
        *(stride for tensor in given for stride in tensor.stride()),
        COLORS=colors,
        HAS_A=conditioning is not None,
        NEEDS_GRAD=bool(grads),
        BLOCK_P=LOGITS.pixels,
        BLOCK_L=triton.next_power_of_2(levels),
        num_warps=LOGITS.warps,
    )
