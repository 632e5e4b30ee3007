"""Tests of the Triton noise kernel, on the GPU or under the interpreter."""

import math

import pytest
import torch

from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref
from tests.support.aot import resources
from tests.support.helpers import slow
from tests.support.noise_cases import EXTREMES, SHAPES_AND_PLACES

pytest.importorskip("triton")
from pixelsr.kernels.gumbel_noise import launch_gumbel_noise

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def noise(samples, positions, levels, seed, first_index, first_position):
    out = torch.full((samples, positions, levels), math.nan, device=DEVICE)
    launch_gumbel_noise(out, seed, first_index, first_position)
    return out.cpu()


@pytest.mark.parametrize("case", SHAPES_AND_PLACES)
def test_the_triton_noise_equals_the_reference(case):
    samples, positions, levels, seed, first_index, first_position = case
    expected = gumbel_noise_ref(seed, first_index, samples, first_position, positions, levels)
    assert torch.equal(noise(*case), expected)


@pytest.mark.parametrize("name", EXTREMES)
def test_the_triton_noise_at_the_extremes_of_u_is_finite_and_right(name):
    (index, position, level), expected = EXTREMES[name]
    got = noise(1, 1, 256, 0, index, position)[0, 0, level]
    assert got == torch.tensor(expected, dtype=torch.float32)


def test_the_triton_noise_fills_a_slice_and_nothing_else():
    buffer = torch.full((7, 5, 2, 4), math.nan, device=DEVICE)
    view = buffer[:, 1:4, 1, ::2].permute(1, 2, 0)  # [3, 2, 7], no stride is 1
    launch_gumbel_noise(view, 3, 4, 5)
    assert torch.equal(view.cpu(), gumbel_noise_ref(3, 4, 3, 5, 2, 7))
    assert buffer.isnan().sum() == buffer.numel() - view.numel()


@pytest.mark.skipif(DEVICE == "cpu", reason="a million draws are too many for the interpreter")
def test_the_operator_on_a_gpu_equals_the_reference_over_a_million_draws():
    out = torch.full((2, 2048, 256), math.nan, device=DEVICE)
    torch.ops.pixelsr.gumbel_noise_(out, 2**35 + 11, 2**32 - 1, 77)
    assert torch.equal(out.cpu(), gumbel_noise_ref(2**35 + 11, 2**32 - 1, 2, 77, 2048, 256))


@pytest.mark.parametrize("capability", [slow(80), 90])
def test_the_noise_kernel_compiles_for_the_gpu_without_spills(capability):
    long = ["seed", "first_index", "first_position"]
    long += ["stride_sample", "stride_position", "stride_level"]
    signature = {
        "out_ptr": "*fp32",
        **dict.fromkeys(long, "i64"),
        "positions": "i32",
        "levels": "i32",
    }
    used = resources(
        "pixelsr.kernels.gumbel_noise",
        "_gumbel_noise_kernel",
        signature,
        {"BLOCKS": 64},
        capability,
    )
    assert used["STACK"] == used["LOCAL"] == 0
    assert used["REG"] <= 48
