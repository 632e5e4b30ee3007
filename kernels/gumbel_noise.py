"""Gumbel noise as a pure function of (seed, sample index, position, level)."""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def gumbel(seed, low, high, position, block):
    """Compute -log(-log(u)) in float64, rounded to float32; u = ((word >> 9) + 0.5) * 2^-23.

    One counter gives four words, for the levels 4 block .. 4 block + 3, so the last dimension of
    the result is four times as long as the last dimension of `block`. `low` and `high` are the
    32-bit halves of the sample's index.
    """
    w0, w1, w2, w3 = tl.philox(seed, low, high, position, block)
    words = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
    uniform = ((words >> 9).to(tl.float64) + 0.5) * 1.1920928955078125e-07
    return (-tl.log(-tl.log(uniform))).to(tl.float32)


@triton.jit(do_not_specialize=["seed", "first_index", "first_position"])
def _gumbel_noise_kernel(
    out_ptr,
    seed: tl.int64,
    first_index: tl.int64,
    first_position: tl.int64,
    positions,
    levels,
    stride_sample: tl.int64,
    stride_position: tl.int64,
    stride_level: tl.int64,
    BLOCKS: tl.constexpr,
):
    """Fill every level of one position of one sample per program."""
    sample, position = tl.program_id(0) // positions, tl.program_id(0) % positions
    index = first_index + sample
    low, high = index.to(tl.uint32), (index >> 32).to(tl.uint32)
    place = (first_position + position).to(tl.uint32)
    noise = gumbel(seed, low, high, place, tl.arange(0, BLOCKS))  # [4 * BLOCKS]
    level = tl.arange(0, 4 * BLOCKS)
    row = out_ptr + sample * stride_sample + position * stride_position
    tl.store(row + level * stride_level, noise, mask=level < levels)


def launch_gumbel_noise(out: Tensor, seed: int, first_index: int, first_position: int) -> None:
    """Fill `out` with noise; it is float32 ``[samples, positions, levels]`` with any strides."""
    samples, positions, levels = out.shape
    if out.numel() == 0:
        return
    blocks = triton.next_power_of_2(triton.cdiv(levels, 4))
    _gumbel_noise_kernel[(samples * positions,)](
        out, seed, first_index, first_position, positions, levels, *out.stride(), BLOCKS=blocks
    )
