"""Tests of the noise: Philox against Random123, the reference's formula and the compiled kernel."""

import math
import os

import pytest
import torch

from pixelsr import ops
from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref, gumbel_of_words_ref, philox4x32_ref
from tests.support.noise_cases import EXTREMES, SHAPES_AND_PLACES

needs_extension = pytest.mark.skipif(
    ops.WHY_NOT_COMPILED is not None, reason=str(ops.WHY_NOT_COMPILED)
)


def noise(samples, positions, levels, seed=0, first_index=0, first_position=0):
    out = torch.full((samples, positions, levels), math.nan)
    torch.ops.pixelsr.gumbel_noise_(out, seed, first_index, first_position)
    return out


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        (
            "00000000 00000000 00000000 00000000",
            "00000000 00000000",
            "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
        ),
        (
            "ffffffff ffffffff ffffffff ffffffff",
            "ffffffff ffffffff",
            "408f276d 41c83b0e a20bc7c6 6d5451fd",
        ),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    first, second = words(key)
    random = philox4x32_ref(torch.tensor(words(counter)), (first, second))
    assert random.tolist() == words(expected)


def test_the_noise_reads_the_words_and_the_counter_in_the_documented_order():
    sample, position, seed = 0x85A308D3_243F6A88, 0x13198A2E, 0x299F31D0_A4093822
    block = 5
    counter = torch.tensor([0x243F6A88, 0x85A308D3, position, block])
    expected = gumbel_of_words_ref(philox4x32_ref(counter, (0xA4093822, 0x299F31D0)))
    signed = sample - 2**64  # the 64-bit index as a signed number
    for draw in (noise, gumbel_noise_in_order):
        got = draw(1, 1, 24, seed=seed, first_index=signed, first_position=position)
        assert torch.equal(got[0, 0, 4 * block :], expected)


def gumbel_noise_in_order(samples, positions, levels, seed, first_index, first_position):
    return gumbel_noise_ref(seed, first_index, samples, first_position, positions, levels)


@pytest.mark.parametrize("name", EXTREMES)
def test_the_noise_at_the_extremes_of_u_is_finite_and_right(name):
    (index, position, level), expected = EXTREMES[name]
    got = noise(1, 1, 256, first_index=index, first_position=position)[0, 0, level]
    assert got == torch.tensor(expected, dtype=torch.float32)


def test_the_extremes_of_u_are_the_ends_of_its_range():
    ends = gumbel_of_words_ref(torch.tensor([0, 0xFFFFFFFF])).tolist()
    expected = [-math.log(-math.log(2.0**-24)), -math.log(-math.log1p(-(2.0**-24)))]
    assert ends == torch.tensor(expected, dtype=torch.float32).tolist()


@pytest.mark.skipif(
    os.environ.get("PIXELSR_EXPECT_EXTENSION") != "1", reason="the extension is not expected"
)
def test_the_extension_was_built():
    assert ops.WHY_NOT_COMPILED is None


@needs_extension
def test_the_compiled_noise_equals_the_reference_over_a_million_draws():
    shape = (2, 2048, 256)
    got = noise(*shape, seed=2**35 + 11, first_index=2**32 - 1, first_position=77)
    expected = gumbel_noise_ref(2**35 + 11, 2**32 - 1, shape[0], 77, *shape[1:])
    assert torch.equal(got, expected)


@needs_extension
@pytest.mark.parametrize("case", SHAPES_AND_PLACES)
def test_the_compiled_noise_equals_the_reference_at_odd_shapes_and_places(case):
    samples, positions, levels, seed, first_index, first_position = case
    expected = gumbel_noise_ref(seed, first_index, samples, first_position, positions, levels)
    assert torch.equal(noise(*case), expected)


def test_the_noise_fills_a_slice_of_a_larger_buffer_and_nothing_else():
    buffer = torch.full((7, 5, 2, 4), math.nan)
    view = buffer[:, 1:4, 1, ::2].permute(1, 2, 0)  # [3, 2, 7], no stride is 1
    torch.ops.pixelsr.gumbel_noise_(view, 3, 4, 5)
    assert torch.equal(view, noise(3, 2, 7, 3, 4, 5))
    assert buffer.isnan().sum() == buffer.numel() - view.numel()


@pytest.mark.parametrize("seed", [0, 2**32, 2**45 + 1])
@pytest.mark.parametrize("first_index", [0, 2**32 - 1, 2**40])
def test_a_sample_has_the_same_noise_alone_and_in_a_batch(seed, first_index):
    batch = noise(3, 6, 9, seed, first_index)
    for k in range(3):
        assert torch.equal(batch[k : k + 1], noise(1, 6, 9, seed, first_index + k))


def test_positions_may_be_drawn_in_several_calls():
    parts = [noise(2, 4, 9, 1, 2, 0), noise(2, 2, 9, 1, 2, 4)]
    assert torch.equal(torch.cat(parts, 1), noise(2, 6, 9, 1, 2, 0))


def test_the_high_halves_of_seed_and_index_matter():
    draws = [noise(1, 1, 4, seed, index) for seed in (0, 2**32) for index in (0, 2**32)]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_the_noise_has_the_distribution_of_gumbel():
    sample = noise(4, 100, 256, seed=5).flatten().double()
    count = sample.numel()
    assert sample.mean().item() == pytest.approx(0.5772156649, abs=5 * 1.2825 / math.sqrt(count))
    assert sample.var().item() == pytest.approx(math.pi**2 / 6, abs=5 * 3.5 / math.sqrt(count))
    cdf = torch.exp(-torch.exp(-sample.sort().values))
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    distance = torch.maximum((cdf - steps[:-1]).abs().max(), (cdf - steps[1:]).abs().max())
    assert distance < 1.95 / math.sqrt(count)  # Kolmogorov-Smirnov test at the 0.1 % level


def test_opcheck_accepts_the_operator():
    torch.library.opcheck(torch.ops.pixelsr.gumbel_noise_.default, (torch.empty(2, 3, 5), 1, 2, 3))


@pytest.mark.parametrize("out", [torch.empty(2, 3), torch.empty(2, 3, 4, dtype=torch.float64)])
def test_a_wrong_output_is_refused_with_what_was_expected(out):
    with pytest.raises((ValueError, RuntimeError), match=r"out must be float32 \[samples"):
        torch.ops.pixelsr.gumbel_noise_(out, 0, 0, 0)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_an_empty_output_is_left_alone(shape):
    assert noise(*shape).shape == shape
