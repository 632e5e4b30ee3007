"""Tests of the Triton recurrences, on the GPU or under the interpreter."""

from functools import partial

import pytest
import torch

from pixelsr import functional
from tests.support.helpers import normal, slow
from tests.support.lstm_cases import KINDS, loop, operator_of, tensors, with_gradients

pytest.importorskip("triton")
from pixelsr.kernels.configs import ALONE

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.usefixtures("poisoned", "ieee", "one_thread", "quick_interpreter")
WAYS = {"alone": 2**40, "wavefront": 0}
"""The bytes of weights up to which one program walks all wavefronts."""
LSTMS = ["row", "diagonal", "reverse"]
needs_gpu = pytest.mark.skipif(DEVICE == "cpu", reason="there is no GPU")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Run the wavefronts in one launch, or in one launch each."""
    for precision in ALONE:
        monkeypatch.setitem(ALONE, precision, WAYS[request.param])
    return request.param


def case(kind, dtype=torch.float32, n=2, h=3, height=3, width=4):
    """Return gates, weight and state, and a gradient of the hidden states."""
    given = tensors(KINDS[kind][1], n, h, height, width)
    given = [x.detach().to(DEVICE, dtype).requires_grad_() for x in given]
    return given, normal(n, h, height, width, seed=3).to(DEVICE, dtype)


def on(kind, backend="triton"):
    function, _, options = KINDS[kind]
    return partial(function, **options, backend=backend)


SIZES = {
    "samples of several programs, in several tiles": (9, 3, 2, 4),
    "two blocks of channels": (2, 17, 2, 2),
    "one cell": (2, 5, 1, 1),
    "one row": (2, 5, 1, 4),
    "one column": (2, 5, 3, 1),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("way")
def test_the_kernels_are_the_reference_forward_and_in_all_gradients(kind, size):
    given, grad = case(kind, torch.float32, *SIZES[size])
    expected = with_gradients(on(kind, "reference"), given, grad)
    found = with_gradients(on(kind), given, grad)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "h", "dtype"),
    [
        ("row", 20, torch.bfloat16),
        ("row", 72, torch.float16),
        ("diagonal", 20, torch.float16),
        ("reverse", 20, torch.bfloat16),
    ],
)
@pytest.mark.usefixtures("way")
def test_half_precision_errs_at_most_twice_as_much_as_a_loop_in_pytorch(kind, h, dtype):
    given, grad = case(kind, dtype, 2, h, 3, 2)
    exact = [x.detach().double().requires_grad_() for x in given]
    right = with_gradients(lambda *x: loop(*x, kind), exact, grad.double())
    library = with_gradients(lambda *x: loop(*x, kind), given, grad)
    ours = with_gradients(on(kind), given, grad)
    for out, other, true in zip(ours, library, right, strict=True):
        assert out.dtype == dtype
        error, allowed = ((x.double() - true).pow(2).mean().sqrt() for x in (out, other))
        assert error <= 2 * allowed


@pytest.mark.parametrize("kind", LSTMS)
@pytest.mark.usefixtures("way")
def test_the_cell_state_of_short_floats_is_float32(kind):
    """Check that a cell grows from 1/4 by 2^-10 per step, which is lost in bfloat16."""
    gates = torch.zeros(1, 4, 12, 2) if kind == "row" else torch.zeros(1, 4, 2, 12)
    gates[:, :3] = 30.0  # all gates open
    gates[:, 3] = 2.0**-10
    state = torch.tensor([[0.0], [0.25]])
    given = [x.to(DEVICE).bfloat16() for x in (gates, torch.zeros(4, 1, KINDS[kind][1]), state)]
    expected = torch.tensor(0.25 + 12 * 2.0**-10).tanh()
    assert abs(on(kind)(*given).float().max() - expected) < 2**-9


@pytest.mark.parametrize("kind", ["row", "reverse"])
@pytest.mark.usefixtures("way")
def test_inference_writes_what_training_does_and_a_sample_alone_what_it_does_among_others(kind):
    (gates, weight, state), _ = case(kind, torch.float16)
    out = on(kind)(gates, weight, state)
    with torch.no_grad():
        assert torch.equal(on(kind)(gates, weight, state), out)
        assert torch.equal(on(kind)(gates[1:], weight, state), out[1:])


@pytest.mark.parametrize("kind", ["row", "reverse"])
def test_strided_inputs_and_gradients_are_read_as_they_lie(kind):
    (gates, weight, state), grad = case(kind, height=2, width=3)
    expected = with_gradients(on(kind), (gates, weight, state), grad)
    shape = (len(gates) + 1, gates.shape[1] + 3, 7, 9)
    buffer = torch.full(shape, torch.nan, device=DEVICE).to(memory_format=torch.channels_last)
    sliced = buffer[1:, 2:-1, 2:4, 1:6:2].copy_(gates.detach())
    last = gates.detach().contiguous(memory_format=torch.channels_last)
    weight, state = weight.detach().mT.contiguous().mT, state.detach().T.contiguous().T
    for strided in (sliced, last, gates.detach().mT.contiguous().mT):
        given = [x.requires_grad_() for x in (strided, weight, state)]
        found = with_gradients(on(kind), given, grad.mT.contiguous().mT)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    hidden, of_gates = with_gradients(on(kind), (last.requires_grad_(), weight, state), grad)[:2]
    assert hidden.is_contiguous(memory_format=torch.channels_last)
    assert of_gates.is_contiguous(memory_format=torch.channels_last)
    assert expected[0].is_contiguous()


@pytest.mark.parametrize("kind", LSTMS)
def test_a_changed_future_leaves_the_past_equal_bit_for_bit(kind):
    given, _ = case(kind)
    gates, weight, state = (x.detach() for x in given)
    changed = gates.clone()
    changed[:, :, 1, 2] = torch.nan
    same = on(kind)(gates, weight, state) == on(kind)(changed, weight, state)
    below = {"row": [1, 2, 3], "diagonal": [2, 3], "reverse": [0, 1, 2]}[kind]
    beside = {"row": [2], "diagonal": [2, 3], "reverse": [0, 1, 2]}[kind]
    same = same.all(1).all(0)
    assert same[0].all()
    assert [c for c in range(4) if not same[1, c]] == beside
    assert [c for c in range(4) if not same[2, c]] == below


@pytest.mark.parametrize("size", [(0, 5, 4), (2, 0, 4), (2, 5, 0)], ids=str)
@pytest.mark.parametrize("kind", ["row", "diagonal"])
def test_nothing_gives_nothing_and_no_gradient(kind, size):
    given, _ = case(kind, torch.float32, size[0], 3, *size[1:])
    out = on(kind)(*given)
    assert out.shape == (size[0], 3, *size[1:])
    assert all((grad == 0).all() for grad in torch.autograd.grad(out.sum(), given))


@pytest.mark.parametrize(("kind", "last"), [slow("row", False), ("reverse", True)])
def test_the_operators_are_well_registered_and_compile(kind, last):
    torch.use_deterministic_algorithms(False)
    (gates, weight, state), grad = case(kind, n=1, height=2, width=2)
    order = torch.channels_last if last else torch.contiguous_format
    gates = gates.detach().contiguous(memory_format=order).requires_grad_()
    operator, options = operator_of(kind)
    torch.library.opcheck(operator, (gates, weight, state, *options, True, "triton"))
    states = operator(gates, weight, state, *options, True, "triton")
    detached = [x.detach() for x in (grad, weight, state, *states)]
    of = getattr(torch.ops.pixelsr, f"{operator.__name__}_grad")
    torch.library.opcheck(of, (*detached, *options, "triton"))
    compiled = torch.compile(on(kind), fullgraph=True, backend="aot_eager")
    expected = with_gradients(on(kind), (gates, weight, state), grad)
    found = with_gradients(compiled, (gates, weight, state), grad)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_it_computes_in_autocasts_dtype_and_exports():
    cudnn = torch.backends.cudnn
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision  # equal for torch.export
    given, _ = case("diagonal", n=1, height=2, width=2)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        out = on("diagonal")(*given)
    assert torch.equal(out, on("diagonal")(*(x.bfloat16() for x in given)))

    class Layer(torch.nn.Module):
        def forward(self, *given):
            return on("diagonal")(*given)

    exported = torch.export.export(Layer(), tuple(given))
    assert "pixelsr.diagonal_lstm" in str(exported.graph)
    torch.testing.assert_close(exported.module()(*given), on("diagonal")(*given))


def test_what_the_backend_cannot_run_it_says(monkeypatch):
    given = [x.detach() for x in tensors(3)]
    with pytest.raises(ValueError, match=r"backend 'triton' cannot run this: .*torch.float64"):
        functional.row_lstm(*given, backend="triton")
    given = [x.float() for x in given]
    with pytest.raises(ValueError, match=r"backend must be one of .*'triton'.*, got 'gpu'"):
        torch.ops.pixelsr.row_lstm(*given, False, "gpu")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="need a GPU, or TRITON_INTERPRET=1 on a CPU, got cpu"):
        functional.row_lstm(*given, backend="triton")
    with pytest.raises(ValueError, match="need a GPU, or TRITON_INTERPRET=1 on a CPU"):
        torch.ops.pixelsr.row_lstm(*given, False, "triton")


# Only on a GPU.


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", LSTMS)
@pytest.mark.usefixtures("way")
def test_at_the_papers_size_the_kernels_err_at_most_twice_as_much_as_the_scan(kind, dtype):
    """Check large sizes, where concurrent programs and threads could read unwritten values."""
    given, grad = case(kind, dtype, 17, 128, 32, 32)
    exact = [x.detach().double().requires_grad_() for x in given]
    right = with_gradients(on(kind, "scan"), exact, grad.double())
    sides = [with_gradients(on(kind, backend), given, grad) for backend in ("triton", "scan")]
    for true, ours, theirs in zip(right, *sides, strict=True):
        error, other = ((x.double() - true).abs().max() for x in (ours, theirs))
        # The scan rounds fewer values to 16 bits than a loop in PyTorch does.
        allowed = 2 * other + (1e-5 if dtype == torch.float32 else 2**-6) * true.abs().max()
        assert error <= allowed


@needs_gpu
@pytest.mark.usefixtures("way")
def test_a_cuda_graph_replays_them_and_auto_takes_them():
    given, _ = case("diagonal", torch.bfloat16, 5, 64, 8, 8)
    gates, weight, state = (x.detach() for x in given)
    run = on("diagonal", "auto")
    expected = run(gates.flip(0), weight, state)
    assert torch.equal(expected, on("diagonal")(gates.flip(0), weight, state))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run(gates, weight, state)
    gates.copy_(gates.flip(0))
    graph.replay()
    assert torch.equal(out, expected)
