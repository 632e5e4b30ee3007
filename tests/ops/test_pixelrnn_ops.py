"""Tests of the PixelRNN recurrences: `row_lstm`, `diagonal_lstm`, `diagonal_bilstm`."""

import itertools
from functools import partial

import pytest
import torch

from pixelsr import functional, ops
from pixelsr.ops.lstm.reference import diagonal_lstm_ref, row_lstm_ref
from tests.support.helpers import normal, slow
from tests.support.lstm_cases import KINDS, loop, operator_of, tensors, with_gradients
from tests.support.processes import module, run

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
needs_kernels = pytest.mark.skipif(ops.WHY_NOT_COMPILED is not None, reason="no C++ kernels")
OPERATORS = [pytest.param("cpu", marks=needs_kernels), "scan"]
"""The backends that are registered operators."""
BACKENDS = [*OPERATORS, "reference"]


@pytest.fixture(autouse=True)
def threads():
    """Use one thread, faster for small sizes; yield a function that sets another number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)


def cell_by_cell(gates, weight, state, read, previous):
    """Compute the equations one cell at a time: no views, no strides, no padding."""
    n, _, height, width = gates.shape
    outside = state[:, None].expand(2, n, -1)  # hidden and cell
    done = {}
    for row in range(height):
        columns = range(width) if previous != (0, 1) else reversed(range(width))
        for column in columns:

            def at(place, row=row, column=column):
                r, c = row + place[0], column + place[1]
                began = r >= 0 if previous[1] == 0 else 0 <= c < width
                if (r, c) in done:
                    return done[r, c]
                starts = not began and (0 <= c < width or (previous[1] != 0 and r >= 0))
                return outside if starts else torch.zeros_like(outside)

            sums = gates[:, :, row, column]
            for tap, place in enumerate(read):
                sums = sums + at(place)[0] @ weight[:, :, tap].T
            o, f, i, g = sums.chunk(4, 1)
            cell = torch.sigmoid(f) * at(previous)[1] + torch.sigmoid(i) * torch.tanh(g)
            done[row, column] = torch.stack([torch.sigmoid(o) * torch.tanh(cell), cell])
    rows = [torch.stack([done[r, c][0] for c in range(width)], -1) for r in range(height)]
    return torch.stack(rows, 2)


PLACES = {
    "row": ([(-1, -1), (-1, 0), (-1, 1)], (-1, 0)),
    "row5": ([(-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2)], (-1, 0)),
    "diagonal": ([(-1, 0), (0, -1)], (0, -1)),
    "reverse": ([(-1, 0), (0, 1)], (0, 1)),
}


@pytest.mark.parametrize(("height", "width"), [(5, 4), (4, 5), (1, 1), (1, 6), (6, 1), (2, 2)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_every_backend_is_the_equations_cell_by_cell(backend, kind, height, width):
    function, taps, options = KINDS[kind]
    given = tensors(taps, height=height, width=width)
    grad_out = normal(2, 3, height, width, seed=3)
    expected = with_gradients(lambda *given: cell_by_cell(*given, *PLACES[kind]), given, grad_out)
    found = with_gradients(
        lambda *given: function(*given, **options, backend=backend), given, grad_out
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gates_without_a_batch_are_a_batch_of_one(backend, kind):
    function, taps, options = KINDS[kind]
    gates, *states = tensors(taps)
    run = partial(function, **options, backend=backend)
    assert torch.equal(run(gates[0], *states), run(gates[:1], *states)[0])


def test_the_bidirectional_map_is_the_sum_with_the_reverse_one_row_lower():
    a, weight, state = tensors(2)
    b, reverse_weight, reverse_state = (normal(*x.shape, seed=7) for x in (a, weight, state))
    gates = torch.cat((a, b), 1)
    right = diagonal_lstm_ref(b, reverse_weight, reverse_state, reverse=True)
    expected = diagonal_lstm_ref(a, weight, state)
    expected = torch.cat((expected[:, :, :1], expected[:, :, 1:] + right[:, :, :-1]), 2)
    found = functional.diagonal_bilstm(gates, weight, state, reverse_weight, reverse_state)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    one_row = functional.diagonal_bilstm(
        gates[:, :, :1], weight, state, reverse_weight, reverse_state
    )
    assert torch.equal(one_row, functional.diagonal_lstm(a[:, :, :1], weight, state))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", OPERATORS)
def test_strided_inputs_and_gradients_are_read_as_they_lie(backend, kind):
    function, taps, options = KINDS[kind]
    given = tensors(taps)
    grad_out = normal(2, 3, 5, 4, seed=3)

    def run(*given):
        return function(*given, **options, backend=backend)

    expected = with_gradients(run, given, grad_out)
    gates, weight, state = (tensor.detach() for tensor in given)
    poisoned = torch.full((4, 25, 9, 11), torch.nan, dtype=torch.float64)
    sliced = poisoned[::2, 6:18, 2:7, 3:11:2].copy_(gates)
    last = gates.contiguous(memory_format=torch.channels_last)
    odd_weight = weight.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    odd_state = state.T.contiguous().T
    odd_grad = grad_out.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    for strided in (sliced, last, last.expand(2, -1, -1, -1)):
        tensors_ = [x.requires_grad_() for x in (strided, odd_weight, odd_state)]
        found = with_gradients(run, tensors_, odd_grad)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert run(last, weight, state).is_contiguous(memory_format=torch.channels_last)
    assert run(gates, weight, state).is_contiguous()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(0, 5, 4), (2, 0, 4), (2, 5, 0)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_gives_nothing_and_no_gradient(backend, kind, size):
    function, taps, options = KINDS[kind]
    given = tensors(taps, *size[:1], 3, *size[1:])
    out = function(*given, **options, backend=backend)
    assert out.shape == (size[0], 3, *size[1:])
    if backend != "reference":
        _, *grads = torch.autograd.grad(out.sum(), given)
        assert all((grad == 0).all() for grad in grads)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", OPERATORS)
def test_gradcheck(backend, kind):
    function, taps, options = KINDS[kind]
    given = tensors(taps, n=2, h=2, height=3, width=3)
    assert torch.autograd.gradcheck(
        lambda *given: function(*given, **options, backend=backend), given
    )


@pytest.mark.parametrize("only", [0, 1, 2], ids=["gates", "weight", "state"])
@pytest.mark.parametrize("kind", ["row", "diagonal"])
@pytest.mark.parametrize("backend", OPERATORS)
def test_a_gradient_is_made_where_it_is_wanted_and_only_there(backend, kind, only):
    function, taps, options = KINDS[kind]
    options = options | {"backend": backend}
    given = tensors(taps)
    expected = torch.autograd.grad(function(*given, **options).square().sum(), given[only])
    given = [tensor.detach() for tensor in given]
    given[only].requires_grad_()
    function(*given, **options).square().sum().backward()
    torch.testing.assert_close(given[only].grad, expected[0], rtol=1e-12, atol=1e-12)
    assert all(tensor.grad is None for tensor in given if tensor is not given[only])


@pytest.mark.parametrize("backend", OPERATORS)
def test_second_derivatives_are_refused_and_the_reference_has_them(backend):
    given = tensors(3, n=1, h=2, height=2, width=2)
    out = functional.row_lstm(*given, backend=backend)
    (grad,) = torch.autograd.grad(out.sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="row_lstm_grad has no derivative"):
        grad.sum().backward()
    out = functional.row_lstm(*given, backend="reference")
    (grad,) = torch.autograd.grad(out.sum(), given[0], create_graph=True)
    grad.sum().backward()


@pytest.mark.parametrize("backend", OPERATORS)
def test_an_operator_that_kept_nothing_says_so_in_backward(backend):
    out, cell, activations = torch.ops.pixelsr.row_lstm(*tensors(3), False, backend)
    assert cell.numel() == activations.numel() == 0
    with pytest.raises(RuntimeError, match="row_lstm was called with keep=False"):
        out.sum().backward()


@pytest.mark.parametrize("last", [slow(False), True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("keep", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("dtype", [slow(torch.float64), torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["row", slow("diagonal"), "reverse"])
@pytest.mark.parametrize("backend", OPERATORS)
def test_the_operators_are_well_registered(backend, kind, dtype, keep, last):
    operator, options = operator_of(kind)
    given = [tensor.detach().to(dtype).requires_grad_(keep) for tensor in tensors(KINDS[kind][1])]
    if last:
        gates = given[0].detach().contiguous(memory_format=torch.channels_last)
        given[0] = gates.requires_grad_(keep)
    torch.library.opcheck(operator, (*given, *options, keep, backend))
    if keep:
        hidden, *kept = operator(*given, *options, keep, backend)
        grad = getattr(torch.ops.pixelsr, f"{operator.__name__}_grad")
        tensors_ = [x.detach() for x in (torch.ones_like(hidden), *given[1:], hidden, *kept)]
        torch.library.opcheck(grad, (*tensors_, *options, backend))


@pytest.mark.parametrize("kind", ["row", "diagonal", "reverse"])
@pytest.mark.parametrize("backend", OPERATORS)
def test_the_recurrence_compiles_as_one_graph(backend, kind):
    function, taps, options = KINDS[kind]
    options = options | {"backend": backend}
    given = tensors(taps)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    expected = with_gradients(lambda *g: function(*g, **options), given, normal(2, 3, 5, 4))
    found = with_gradients(lambda *g: compiled(*g, **options), given, normal(2, 3, 5, 4))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["row", "diagonal", "reverse"])
def test_short_floats_err_at_most_twice_as_much_as_a_loop_in_pytorch(kind, dtype):
    function, taps, options = KINDS[kind]
    given = [x.detach().to(dtype) for x in tensors(taps, h=16, height=12, width=11)]
    grad_out = normal(2, 16, 12, 11, seed=3).to(dtype)

    def run(what, dtype):
        inputs = [x.to(dtype).requires_grad_() for x in given]
        return with_gradients(what, inputs, grad_out.to(dtype))

    def plain(*given):
        return loop(*given, kind)

    exact = run(plain, torch.float64)
    library = run(plain, dtype)
    backends = ["scan", "reference"] if ops.WHY_NOT_COMPILED else ["cpu", "scan", "reference"]
    for backend in backends:
        ours = run(lambda *given, b=backend: function(*given, **options, backend=b), dtype)
        for out, other, right in zip(ours, library, exact, strict=True):
            assert out.dtype == dtype
            error = (out.double() - right).detach().pow(2).mean().sqrt()
            allowed = (other.double() - right).detach().pow(2).mean().sqrt()
            assert error <= 2 * allowed


@pytest.mark.parametrize("kind", ["row", "diagonal", "reverse"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_cell_state_of_short_floats_is_float32(backend, kind):
    """Check that a cell grows from 1/4 by 2^-10 per step, which is lost in bfloat16."""
    function, taps, options = KINDS[kind]
    gates = torch.zeros(1, 4, 100, 2) if kind == "row" else torch.zeros(1, 4, 2, 100)
    gates[:, :3] = 30.0  # all gates open
    gates[:, 3] = 2.0**-10
    weight, state = torch.zeros(4, 1, taps), torch.tensor([[0.0], [0.25]])
    given = [x.bfloat16() for x in (gates, weight, state)]
    out = function(*given, **options, backend=backend)
    expected = torch.tensor(0.25 + 100 * 2.0**-10).tanh()
    assert abs(out.float().max() - expected) < 2**-9


@pytest.mark.parametrize("kind", ["row", "diagonal"])
@pytest.mark.parametrize("backend", OPERATORS)
def test_autocast_computes_in_bfloat16_and_leaves_float64_alone(backend, kind):
    function, taps, _ = KINDS[kind]
    given = [x.detach() for x in tensors(taps)]
    operator, options = operator_of(kind)
    function = partial(function, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert function(*given).dtype == torch.float64
        out = function(*(x.float() for x in given))
        assert torch.equal(out, operator(*(x.float() for x in given), *options, False, backend)[0])
    assert torch.equal(out, function(*(x.bfloat16() for x in given)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", OPERATORS)
def test_a_changed_future_leaves_the_past_equal_bit_for_bit(backend, dtype):
    for kind, taps in (("row", 3), ("diagonal", 2), ("reverse", 2)):
        function, _, options = KINDS[kind]
        options = options | {"backend": backend}
        gates, weight, state = (x.detach().to(dtype) for x in tensors(taps))
        changed = gates.clone()
        changed[:, :, 2, 2] += 3
        same = function(gates, weight, state, **options) == function(
            changed, weight, state, **options
        )
        same = same.all(1)[0]
        assert same[:2].all()
        reached = {"row": [2], "diagonal": [2, 3], "reverse": [0, 1, 2]}[kind]
        assert [c for c in range(4) if not same[2, c]] == reached
        below = {"row": [1, 2, 3], "diagonal": [2, 3], "reverse": [0, 1, 2]}[kind]
        assert [c for c in range(4) if not same[3, c]] == below


def test_shapes_can_be_had_on_the_meta_device():
    given = [x.detach().to("meta") for x in tensors(3)]
    assert functional.row_lstm(*given).shape == (2, 3, 5, 4)
    given = [x.detach().to("meta").requires_grad_() for x in tensors(2)]
    out = functional.diagonal_lstm(*given)
    out.sum().backward()
    assert [x.grad.shape for x in given] == [x.shape for x in given]


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float64, *DTYPES], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_the_kernels_are_the_scan_for_odd_numbers_of_channels(kind, dtype):
    function, taps, options = KINDS[kind]
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 4e-2)
    for h, n in ((1, 3), (5, 1), (19, 2), (33, 5)):
        given = [x.detach().to(dtype) for x in tensors(taps, n, h, 7, 9)]
        given = [x.requires_grad_() for x in given]
        grad_out = normal(n, h, 7, 9, seed=3).to(dtype)
        found, expected = (
            with_gradients(partial(function, **options, backend=backend), given, grad_out)
            for backend in ("cpu", "scan")
        )
        for one, other in zip(found, expected, strict=True):
            assert (one - other).abs().max() <= tolerance * other.abs().max()


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_batch_leave_every_bit_of_the_kernels_results(kind, dtype, threads):
    function, taps, options = KINDS[kind]
    gates, weight, state = (x.detach().to(dtype) for x in tensors(taps, 7, 21, 6, 9))
    grad_out = normal(7, 21, 6, 9, seed=3).to(dtype)

    def run(some):
        own = gates[some].clone().requires_grad_()
        out = function(own, weight, state, **options, backend="cpu")
        return out, torch.autograd.grad(out, own, grad_out[some])[0]

    threads(1)
    expected = run(slice(None))
    for count, some in itertools.product((1, 2, 3, 8), (slice(0, 1), slice(2, 7), slice(None))):
        threads(count)
        for one, other in zip(run(some), expected, strict=True):
            assert torch.equal(one, other[some])


@needs_kernels
def test_inference_writes_what_training_does():
    for kind in KINDS:
        given = [x.detach().float() for x in tensors(KINDS[kind][1], h=18)]
        operator, options = operator_of(kind)
        without, with_kept = (operator(*given, *options, keep, "cpu") for keep in (False, True))
        assert torch.equal(without[0], with_kept[0])


@needs_kernels
@pytest.mark.parametrize("instruction_set", ["avx2", "plain"])
def test_other_instruction_sets_are_the_scan_too(instruction_set):
    arguments = ("pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "odd_numbers")
    done = run(module, *arguments, environment={"PIXELSR_INSTRUCTION_SET": instruction_set})
    if "which this processor has" in done.stdout:
        pytest.skip(f"no {instruction_set} here")
    assert done.returncode == 0, done.stdout


def test_auto_takes_the_kernels_where_they_are():
    given = [x.detach() for x in tensors(3)]
    expected = "scan" if ops.WHY_NOT_COMPILED else "cpu"
    assert torch.equal(functional.row_lstm(*given), functional.row_lstm(*given, backend=expected))
    with pytest.raises(ValueError, match=r"backend 'cpu' cannot run this: .* are for the CPU"):
        functional.row_lstm(*(x.to("meta") for x in given), backend="cpu")


GATES, ROW, DIAGONAL, STATE = (
    torch.zeros(2, 12, 5, 4),
    torch.zeros(12, 3, 3),
    torch.zeros(12, 3, 2),
    torch.zeros(2, 3),
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((GATES[0, 0], ROW, STATE), r"takes gates \[N, 4 h, H, W\] or .*got \[5, 4\]"),
        ((GATES, ROW[0], STATE), r"and weight \[4 h, h, taps\], got .* and \[3, 3\]"),
        ((GATES, ROW[:9], STATE), r"weight must be \[4 h, h, taps\], got \[9, 3, 3\]"),
        ((GATES[:, :8], ROW, STATE), "gates have 8 channels, the weight 12"),
        ((GATES, ROW, STATE[0]), r"initial_state must be \[2, 3\], got \[3\]"),
        ((GATES, ROW, STATE[:, :2]), r"initial_state must be \[2, 3\], got \[2, 2\]"),
        ((GATES, ROW, torch.zeros(2, 2, 3)), r"initial_state must be \[2, 3\], got \[2, 2, 3\]"),
        ((GATES.double(), ROW, STATE), "must have one dtype, got"),
        ((GATES, ROW.to("meta"), STATE), "must have one device, got"),
        ((GATES.long(), ROW.long(), STATE.long()), "takes floating-point tensors, got torch.int64"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_recurrence_that_cannot_be_is_refused(given, message):
    with pytest.raises(ValueError, match=f"^row_lstm.*{message}"):
        functional.row_lstm(*given)
    gates, weight, state = given
    with pytest.raises(ValueError, match=f"^diagonal_lstm.*{message.replace('3, 3', '3, .')}"):
        functional.diagonal_lstm(gates, weight[..., :2], state)


def test_another_number_of_taps_or_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="row_lstm takes an odd number of taps, got 2"):
        functional.row_lstm(GATES, DIAGONAL, STATE)
    with pytest.raises(ValueError, match="diagonal_lstm takes two taps, got 3"):
        functional.diagonal_lstm(GATES, ROW, STATE)
    with pytest.raises(ValueError, match="backend must be auto or one of"):
        functional.row_lstm(GATES, ROW, STATE, backend="gpu")
    with pytest.raises(ValueError, match=r"takes gates \[N, 8 h, H, W\] or .* got \[2, 12, 5, 4\]"):
        functional.diagonal_bilstm(GATES, DIAGONAL, STATE, DIAGONAL, STATE)


def test_the_references_agree_with_the_loop():
    for kind, taps in itertools.product(["row", "diagonal", "reverse"], [3]):
        given = tensors(taps if kind == "row" else 2)
        ref = {"row": row_lstm_ref, "diagonal": diagonal_lstm_ref}.get(
            kind, lambda *given: diagonal_lstm_ref(*given, reverse=True)
        )
        torch.testing.assert_close(ref(*given), loop(*given, kind), rtol=1e-12, atol=1e-12)
