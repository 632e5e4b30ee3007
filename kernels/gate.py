"""The kernels of the gate of a Gated PixelCNN, ``tanh(a) * sigmoid(b)``, and of its gradient."""

import triton
import triton.language as tl
from torch import Tensor

BLOCK, WARPS = 1024, 4
"""The outputs and warps of a program. Memory bandwidth is the limit; eight outputs per thread give
loads of 16 bytes.
"""


@triton.jit
def tanh(x):
    """Return tanh(x), accurate to the last bits of float32 at 1; Triton's interpreter has none."""
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _halves(channels, count, BLOCK: tl.constexpr):
    """Return a program's output indices, the input indices of their `a`, and their mask."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return at, at + at // channels * channels, at < count


@triton.jit
def _gate_kernel(x_ptr, out_ptr, channels, count: tl.int64, BLOCK: tl.constexpr):
    """Compute out = tanh(a) sigmoid(b); a pixel of `x` is `channels` of a, then as many of b."""
    at, a_at, exists = _halves(channels, count, BLOCK)
    a = tl.load(x_ptr + a_at, mask=exists).to(tl.float32)
    b = tl.load(x_ptr + a_at + channels, mask=exists).to(tl.float32)
    out = tanh(a) * tl.sigmoid(b)
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=exists)


@triton.jit
def _gate_grad_kernel(
    x_ptr,
    grad_ptr,
    add_ptr,
    out_ptr,
    channels,
    count: tl.int64,
    HAS_ADD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute the gradients grad sigmoid(b) tanh'(a) of a and grad tanh(a) sigmoid'(b) of b.

    `add` is added to both. sigmoid'(x) = sigmoid(x) sigmoid(-x) and tanh'(x) = 4 sigmoid'(2 x)
    avoid cancellation near 1.
    """
    at, a_at, exists = _halves(channels, count, BLOCK)
    a = tl.load(x_ptr + a_at, mask=exists).to(tl.float32)
    b = tl.load(x_ptr + a_at + channels, mask=exists).to(tl.float32)
    grad = tl.load(grad_ptr + at, mask=exists).to(tl.float32) * tl.sigmoid(b)
    to_a = grad * 4 * tl.sigmoid(2 * a) * tl.sigmoid(-2 * a)
    to_b = grad * tanh(a) * tl.sigmoid(-b)
    if HAS_ADD:
        to_a += tl.load(add_ptr + a_at, mask=exists).to(tl.float32)
        to_b += tl.load(add_ptr + a_at + channels, mask=exists).to(tl.float32)
    tl.store(out_ptr + a_at, to_a.to(out_ptr.dtype.element_ty), mask=exists)
    tl.store(out_ptr + a_at + channels, to_b.to(out_ptr.dtype.element_ty), mask=exists)


def launch_gate(x: Tensor, out: Tensor) -> None:
    """Fill `out` with the gate of `x`; both are dense and channels-last."""
    _gate_kernel[(triton.cdiv(out.numel(), BLOCK),)](
        x, out, out.shape[1], out.numel(), BLOCK=BLOCK, num_warps=WARPS
    )


def launch_gate_grad(x: Tensor, grad: Tensor, add: Tensor | None, out: Tensor) -> None:
    """Fill `out` with the gradient of `x`, plus `add`; all are dense and channels-last."""
    _gate_grad_kernel[(triton.cdiv(grad.numel(), BLOCK),)](
        x,
        grad,
        x if add is None else add,
        out,
        grad.shape[1],
        grad.numel(),
        HAS_ADD=add is not None,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
