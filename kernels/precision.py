"""The precision of matrix products in the kernels."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .configs import HALF, IEEE, TF32


def conv_precision(x: Tensor) -> str:
    """Return the key for a table of configs: TF32 only if PyTorch allows it for convolutions."""
    if x.dtype != torch.float32:
        return HALF
    return TF32 if torch.backends.cudnn.conv.fp32_precision == "tf32" else IEEE


def matmul_precision(x: Tensor) -> str:
    """Return the key for a table of configs: TF32 only if PyTorch allows it for matrix products."""
    if x.dtype != torch.float32:
        return HALF
    return TF32 if torch.backends.cuda.matmul.fp32_precision == "tf32" else IEEE


def input_precision(precision: str) -> str:
    """Return the `input_precision` of `tl.dot`, which ignores it for 16-bit dtypes."""
    return "tf32" if precision == TF32 else "ieee"


@triton.jit
def nearest_tf32(x):
    """Round float32 to the nearest TF32, ties away from zero, as cvt.rna.tf32.f32 does.

    The product instructions truncate the last 13 bits, which has up to three times the error and is
    biased towards zero.
    """
    bits = (x.to(tl.uint32, bitcast=True) + 0x1000) & 0xFFFFE000
    return tl.where(x == x, bits.to(tl.float32, bitcast=True), x)  # a NaN would become zero


@triton.jit
def dot(x, w, total, PRECISION: tl.constexpr):
    """Return ``total + x @ w``."""
    if PRECISION == "tf32":
        x, w = nearest_tf32(x), nearest_tf32(w)
    return tl.dot(x, w, total, input_precision=PRECISION)
