"""Tests of the Triton gate, on the GPU or under the interpreter."""

import pytest
import torch

from pixelsr import functional
from pixelsr.ops.masked_conv2d.reference import gate_ref
from tests.support.helpers import normal

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OURS = torch.ops.pixelsr
pytestmark = pytest.mark.usefixtures("poisoned")


def wide(*shape, dtype=torch.float32, seed=0):
    return (3 * normal(*shape, seed=seed)).to(DEVICE, dtype)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", [(2, 14, 5, 3), (1, 2, 1, 1), (3, 256, 4, 7)], ids=str)
def test_the_gate_and_its_gradient_equal_the_reference(shape, order):
    x = wide(*shape).to(memory_format=order)
    grad = wide(shape[0], shape[1] // 2, *shape[2:], seed=1)
    results = []
    for run, given in ((OURS.gate_triton, x), (gate_ref, x.double())):
        y = run(given.requires_grad_())
        results.append([y, *torch.autograd.grad(y, given, grad.to(given.dtype))])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=3e-6, atol=3e-6)
    assert results[0][0].is_contiguous(memory_format=order)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_errs_at_most_twice_as_much_as_pytorch(dtype):
    x = wide(2, 64, 7, 5, dtype=dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    grad = wide(2, 32, 7, 5, dtype=dtype, seed=1)

    def results(run, given):
        y = run(given)
        return [y, *torch.autograd.grad(y, given, grad.to(given.dtype))]

    sides = results(gate_ref, exact), results(OURS.gate_triton, x), results(gate_ref, x)
    for right, ours, theirs in zip(*sides, strict=True):
        error = (ours.double() - right).abs().max()
        assert error <= 2 * (theirs.double() - right).abs().max()


@pytest.mark.parametrize("value", [-200.0, -20.0, 0.0, 20.0, 200.0])
def test_large_values_saturate(value):
    x = torch.full((1, 2, 1, 1), value, device=DEVICE, requires_grad=True)
    y = OURS.gate_triton(x)
    torch.testing.assert_close(y, gate_ref(x))
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()


def test_the_gradient_adds_that_of_what_is_before_the_gate():
    x, grad, add = wide(2, 6, 4, 3), wide(2, 3, 4, 3, seed=1), wide(2, 6, 4, 3, seed=2)
    alone = OURS.gate_grad_triton(x, grad, None)
    torch.testing.assert_close(OURS.gate_grad_triton(x, grad, add), alone + add)


def test_second_derivatives_are_refused_rather_than_wrong():
    x = wide(1, 4, 2, 3).requires_grad_()
    (grad,) = torch.autograd.grad(OURS.gate_triton(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives need another backend"):
        torch.autograd.grad(grad.sum(), x)


def test_slices_and_expanded_gradients():
    buffer = wide(3, 20, 6, 5)
    view = buffer[1:, 3:15, ::2, 1:].requires_grad_()
    y = OURS.gate_triton(view)
    torch.testing.assert_close(y, gate_ref(view))
    (grad,) = torch.autograd.grad(y.sum(), view)
    (expected,) = torch.autograd.grad(gate_ref(view).sum(), view)
    torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-6)
    assert OURS.gate_triton(view[:0]).shape == (0, 6, 3, 4)


def test_the_operators_are_well_registered_and_compile():
    torch.use_deterministic_algorithms(False)
    x = wide(2, 6, 4, 3).requires_grad_()
    torch.library.opcheck(OURS.gate_triton, (x,))
    detached = x.detach()
    torch.library.opcheck(OURS.gate_grad_triton, (detached, detached[:, :3], None))
    run = lambda x: functional.gate(x, backend="triton")  # noqa: E731
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), run(x))


def test_an_image_without_a_batch_is_a_batch_of_one():
    x = normal(6, 4, 3, dtype=torch.float32).to(DEVICE)
    for backend in ("triton", "reference"):
        found = functional.gate(x, backend=backend)
        assert torch.equal(found, functional.gate(x[None], backend=backend)[0])


def test_autocast_and_what_the_backend_cannot_run():
    x = wide(1, 4, 2, 2)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        assert OURS.gate_triton(x).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"cannot run this: .* got torch.float64"):
        functional.gate(x.double(), backend="triton")
    with pytest.raises(ValueError, match=r"backend must be auto or one of .*, got 'cudnn'"):
        functional.gate(x, backend="cudnn")
