"""Tests of the compiled CPU recurrences: both directions in one call, formats and unread inputs."""

import math

import pytest
import torch
import torch.nn.functional as F

from pixelsr import functional, ops
from tests.support.helpers import normal

pytestmark = pytest.mark.skipif(ops.WHY_NOT_COMPILED is not None, reason="no C++ kernels")
FORMATS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def parameters(h, taps, seed, dtype=torch.float64):
    weight = normal(4 * h, h, taps, seed=seed, dtype=dtype) / math.sqrt(h * taps)
    return weight, normal(2, h, seed=seed + 1, dtype=dtype)


def both(h, dtype=torch.float64):
    return [*parameters(h, 2, 1, dtype), *parameters(h, 2, 3, dtype)]


def bilstm_of_two(gates, weight, state, weight_reverse, state_reverse):
    a, b = gates.chunk(2, 1)
    left = functional.diagonal_lstm(a, weight, state, backend="reference")
    right = functional.diagonal_lstm(
        b, weight_reverse, state_reverse, reverse=True, backend="reference"
    )
    return left + F.pad(right, (0, 0, 1, -1))


def gradients(function, given, grad):
    leaves = [x.detach().requires_grad_() for x in given]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def cpu_bilstm(*given):
    return functional.diagonal_bilstm(*given, backend="cpu")


@pytest.mark.parametrize("order", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (4, 17)], ids=str)
@pytest.mark.parametrize("h", [1, 20])
def test_both_directions_are_the_sum_of_two_recurrences(h, size, order):
    gates = normal(3, 8 * h, *size, seed=7).contiguous(memory_format=FORMATS[order])
    given, grad = [gates, *both(h)], normal(3, h, *size, seed=8)
    found, expected = (gradients(run, given, grad) for run in (cpu_bilstm, bilstm_of_two))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", FORMATS)
def test_a_nan_that_nothing_reads_reaches_no_gradient(order):
    gates, grad = normal(2, 24, 5, 4).contiguous(memory_format=FORMATS[order]), normal(2, 3, 5, 4)
    given = both(3)
    clean = gradients(cpu_bilstm, [gates, *given], grad)
    gates[:, 12:, -1] = math.nan  # the right-to-left map is read one row lower
    spoilt = gradients(cpu_bilstm, [gates, *given], grad)
    for one, other in zip(spoilt, clean, strict=True):
        assert torch.equal(one, other)
    assert (spoilt[1][:, 12:, -1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_both_formats_give_equal_bits(dtype):
    given, grad = both(19, dtype), normal(3, 19, 9, 8, seed=8, dtype=dtype)
    gates = normal(3, 8 * 19, 9, 8, seed=7, dtype=dtype)
    found = []
    for order in FORMATS.values():
        laid = gates.contiguous(memory_format=order), grad.contiguous(memory_format=order)
        found.append(gradients(cpu_bilstm, [laid[0], *given], laid[1]))
        assert found[-1][0].is_contiguous(memory_format=order)
        assert found[-1][1].is_contiguous(memory_format=order)
    for at in (0, 1, 2, 4):  # the initial states depend on memory order
        assert torch.equal(found[0][at], found[1][at])


def test_the_gradient_of_the_weight_is_the_same_again():
    weight, state = parameters(20, 3, 1, torch.float32)
    gates, grad = normal(5, 80, 9, 8, dtype=torch.float32), normal(5, 20, 9, 8, dtype=torch.float32)

    def run(*given):
        return functional.row_lstm(*given, backend="cpu")

    first = gradients(run, [gates, weight, state], grad)
    for _ in range(5):
        for one, other in zip(gradients(run, [gates, weight, state], grad), first, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("keep", "dtype"),
    [(True, torch.float64), (True, torch.bfloat16), (False, torch.float32)],
    ids=str,
)
def test_the_operator_of_both_directions_is_well_registered(keep, dtype):
    gates = normal(2, 24, 5, 4, dtype=dtype).requires_grad_(keep)
    torch.library.opcheck(torch.ops.pixelsr.diagonal_bilstm.default, (gates, *both(3, dtype), keep))


def test_inference_of_both_directions_writes_what_training_does():
    given = [normal(2, 8 * 18, 5, 4, dtype=torch.float32), *both(18, torch.float32)]
    operator = torch.ops.pixelsr.diagonal_bilstm
    assert torch.equal(operator(*given, False)[0], operator(*given, True)[0])


@pytest.mark.parametrize("size", [(0, 24, 5, 4), (2, 24, 0, 4), (2, 24, 5, 0)], ids=str)
def test_nothing_gives_nothing_and_no_gradient(size):
    given = [torch.zeros(size, dtype=torch.float64), *both(3)]
    out, *grads = gradients(cpu_bilstm, given, torch.zeros(size[0], 3, *size[2:]).double())
    assert out.numel() == 0
    assert all((grad == 0).all() for grad in grads)


def test_an_operator_of_both_directions_that_kept_nothing_says_so():
    given = [normal(2, 24, 5, 4).requires_grad_(), *both(3)]
    with pytest.raises(RuntimeError, match="diagonal_bilstm was called with keep=False"):
        torch.ops.pixelsr.diagonal_bilstm(*given, False)[0].sum().backward()


def test_more_threads_than_samples_change_no_bit():
    given, grad = both(20, torch.float32), normal(2, 20, 9, 8, dtype=torch.float32)
    gates, before, found = normal(2, 160, 9, 8, dtype=torch.float32), torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(gradients(cpu_bilstm, [gates, *given], grad)[:2])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for one in found[1:] for pair in zip(one, found[0], strict=True))
