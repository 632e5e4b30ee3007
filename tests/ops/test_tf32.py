"""Tests of rounding to TF32 in Triton, on the GPU or in the interpreter."""

import pytest
import torch

from tests.support.tf32_cases import nearest_tf32

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

from pixelsr.kernels import precision  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@triton.jit
def _round_kernel(x_ptr, out_ptr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + at, precision.nearest_tf32(tl.load(x_ptr + at)))


def rounded(bits):
    """Return float32 numbers, given as int32 bits, and the kernel's results for them."""
    x = bits.to(torch.int32).view(torch.float32).to(DEVICE)
    out = torch.zeros_like(x)
    _round_kernel[(len(x) // 256,)](x, out, BLOCK=256)
    return x.cpu(), out.cpu()


def test_every_exponent_and_sign_and_both_sides_of_each_tie():
    high = torch.arange(-(2**18), 2**18, 37)[: 14000 // 256 * 256] * 2**13  # down to bit 13
    for low in (0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF):
        x, found = rounded(high + low)
        finite = x.isfinite()
        assert torch.equal(found[finite], nearest_tf32(x)[finite])
        assert torch.equal(found[x.isinf()], x[x.isinf()])
        assert found[x.isnan()].isnan().all()
    assert not (found[finite].view(torch.int32) & 0x1FFF).any()


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x7FFFFFFF, None),  # the NaN that a GPU produces
        (-1, None),
        (0x7F800000, 0x7F800000),
        (0x7F7FFFFF, 0x7F800000),  # the largest float32 rounds to infinity
        (-0x80000000, -0x80000000),
        (0x00000FFF, 0),
        (0x00001000, 0x00002000),
        (0x3F801000, 0x3F802000),
        (0x3F800FFF, 0x3F800000),
    ],
)
def test_what_is_special(bits, expected):
    _, found = rounded(torch.full((256,), bits))
    if expected is None:
        assert found.isnan().all()
    else:
        assert (found.view(torch.int32) == expected).all()
