"""Tests of the Triton masked convolution, on the GPU or under the interpreter."""

import itertools
import math
from functools import partial

import pytest
import torch

from pixelsr import functional
from pixelsr.masks import causal_mask
from pixelsr.nn import GatedLayer, GatedMaskedConv2d, MaskedConv2d, PixelCNNBlock
from pixelsr.ops.masked_conv2d.reference import gate_ref, masked_conv2d_ref
from tests.support.helpers import normal, randomize, slow
from tests.support.tf32_cases import nearest_tf32

pytest.importorskip("triton")
from pixelsr.kernels.masked_conv2d.live_blocks import find_products

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
OURS = torch.ops.pixelsr
pytestmark = pytest.mark.usefixtures("poisoned", "quick_interpreter")
HALVES = [torch.float16, torch.bfloat16] + [torch.float32] * (DEVICE == "cuda")
"""The dtypes whose products round; on a GPU also float32, where both sides round to TF32."""

# kernel, in and out channels, mask, in and out parts, dilation
CASES = {
    "a first layer": ((7, 7), 3, 66, "A", 1, 1, 1),
    "a first layer of rows above": ((3, 5), 5, 34, "V-first", 1, 1, 1),
    "a vertical stack": ((5, 5), 20, 70, "V", 1, 1, 1),
    "a horizontal stack": ((1, 5), 70, 44, "B", 1, 2, 1),
    "an output layer": ((1, 1), 34, 21, "B", 1, 1, 1),
    "parts on both sides, dilated": ((3, 3), 36, 6, "A", 2, 3, 2),
    "fewer channels than colors": ((3, 3), 2, 2, "B", 1, 1, 1),
    "no live tap at all": ((1, 1), 17, 4, "A", 1, 2, 1),
}
SIZES = {"a first layer": (2, 4, 6), "an output layer": (3, 7, 9), "a vertical stack": (1, 6, 5)}


@pytest.fixture(params=["ieee"])
def _precision(request):
    """Set the precision of float32 convolutions in PyTorch, which ours follow.

    The interpreter multiplies exactly.
    """
    switch = torch.backends.cudnn.conv
    before, switch.fp32_precision = switch.fp32_precision, request.param
    yield
    switch.fp32_precision = before


def case(name, dtype=torch.float32, channels_last=True):
    """Return the tensors x, weight, bias and add, and the layer's options.

    The options are mask_type, colors, in_parts, out_parts and dilation.
    """
    kernel, in_channels, out_channels, kind, in_parts, out_parts, dilation = CASES[name]
    images, height, width = SIZES.get(name, (2, 5, 4))
    tensors = (
        normal(images, in_channels, height, width),
        normal(out_channels, in_channels, *kernel, seed=1) / math.sqrt(in_channels),
        normal(out_channels, seed=2),
        normal(images, out_channels, height, width, seed=3),
    )
    order = torch.channels_last if channels_last else torch.contiguous_format
    x, weight, bias, add = (tensor.to(DEVICE, dtype) for tensor in tensors)
    maps = (x.to(memory_format=order), weight, bias, add.to(memory_format=order))
    return [t.requires_grad_() for t in maps], (kind, 3, in_parts, out_parts, dilation)


def forward_and_gradients(run, tensors, grads):
    outputs = run(*tensors)
    gradients = torch.autograd.grad(outputs, tensors, grads)
    return [*outputs, *gradients]


def conv_ref(x, weight, bias, add, *layer):
    y = masked_conv2d_ref(x, weight, bias, *layer) + add
    return (gate_ref(y), y) if len(weight) % 2 == 0 else (y,)


def conv(x, weight, bias, add, *layer):
    if len(weight) % 2 == 0:
        return OURS.masked_conv2d_gate_triton(x, weight, bias, add, *layer)
    return (OURS.masked_conv2d_triton(x, weight, bias, add, *layer),)


@pytest.mark.parametrize("channels_last", [True, False], ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("_precision")
def test_the_kernels_equal_the_reference_forward_and_in_all_gradients(name, channels_last):
    tensors, layer = case(name, channels_last=channels_last)
    expected_out = conv_ref(*tensors, *layer)
    grads = [normal(*out.shape, seed=4).to(out) for out in expected_out]
    expected = forward_and_gradients(lambda *t: conv_ref(*t, *layer), tensors, grads)
    got = forward_and_gradients(lambda *t: conv(*t, *layer), tensors, grads)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
    for out in got[: len(grads)]:
        order = torch.channels_last if channels_last else torch.contiguous_format
        assert out.is_contiguous(memory_format=order)


@pytest.mark.parametrize("_precision", ["tf32"], indirect=True)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("_precision")
def test_where_tf32_is_allowed_operands_are_rounded_to_the_nearest(name):
    """Check that operands are rounded to the nearest TF32, not truncated as the products would do.

    The expected results are exact sums of rounded operands.
    """
    (x, weight, bias, add), layer = case(name)
    x, weight, bias, add = (tensor.detach() for tensor in (x, weight, bias, add))
    grad = normal(*add.shape, seed=4).to(x)
    rounded = [nearest_tf32(tensor).double() for tensor in (x, weight, grad)]
    x_there, weight_there = (tensor.requires_grad_() for tensor in rounded[:2])
    out = masked_conv2d_ref(x_there, weight_there, None, *layer)
    expected = [out, *torch.autograd.grad(out, (x_there, weight_there), rounded[2])]
    found = [
        OURS.masked_conv2d_triton(x, weight, None, None, *layer),
        OURS.masked_conv2d_grad_input_triton(grad, weight, *layer),
        OURS.masked_conv2d_grad_weight_triton(x, grad, list(weight.shape[2:]), *layer),
    ]
    if len(weight) % 2 == 0:
        found.append(OURS.masked_conv2d_gate_triton(x, weight, bias, add, *layer)[1])
        expected.append(out + bias[:, None, None] + add)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs.detach(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("_precision", ["tf32"], indirect=True)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["a first layer", "a vertical stack", "an output layer"])
@pytest.mark.usefixtures("_precision")
def test_half_precision_errs_at_most_twice_as_much_as_pytorch(name, dtype):
    tensors, layer = case(name, dtype)
    exact_tensors = [t.detach().double().requires_grad_() for t in tensors]
    shapes = [out.shape for out in conv_ref(*exact_tensors, *layer)]
    grads = [normal(*shape, seed=4).to(DEVICE, dtype) for shape in shapes]

    def results(run, given):
        return forward_and_gradients(
            lambda *t: run(*t, *layer), given, [grad.to(given[0].dtype) for grad in grads]
        )

    exact = results(conv_ref, exact_tensors)
    ours, theirs = results(conv, tensors), results(conv_ref, tensors)
    for right, got, library in zip(exact, ours, theirs, strict=True):
        error, other = ((some.double() - right).norm() for some in (got, library))
        assert error <= 2 * other + 1e-12


@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
@pytest.mark.usefixtures("_precision")
def test_bias_and_add_may_be_missing(gated):
    (x, weight, _, _), layer = case("a vertical stack")
    expected = masked_conv2d_ref(x, weight, None, *layer)
    run = OURS.masked_conv2d_gate_triton if gated else OURS.masked_conv2d_triton
    out = run(x, weight, None, None, *layer)
    torch.testing.assert_close(out[1] if gated else out, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.usefixtures("_precision")
def test_either_output_of_the_gate_may_be_the_only_one_used():
    tensors, layer = case("a vertical stack")
    for index in (0, 1):
        grad = normal(*conv_ref(*tensors, *layer)[index].shape).to(tensors[0])
        expected, got = (
            torch.autograd.grad(run(*tensors, *layer)[index], tensors, grad)
            for run in (conv_ref, conv)
        )
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)


def test_slices_of_larger_buffers_are_read_where_they_stand():
    (x, weight, bias, add), layer = case("a vertical stack")
    images, channels, height, width = x.shape
    shape = (images + 1, channels + 3, height + 2, width + 1)
    buffer = torch.full(shape, math.nan, device=DEVICE).to(memory_format=torch.channels_last)
    view = buffer[1:, 2 : 2 + channels, 1:-1, 1:]
    view.copy_(x.detach())
    view.requires_grad_()
    grads = [normal(*out.shape, seed=4).to(x) for out in conv_ref(x, weight, bias, add, *layer)]
    run = lambda *t: conv(*t, *layer)  # noqa: E731
    expected = forward_and_gradients(run, [x, weight, bias, add], grads)
    got = forward_and_gradients(run, [view, weight, bias, add], grads)
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("_precision")
def test_overlapping_strides_are_read_like_any_others():
    (x, weight, bias, add), layer = case("a vertical stack")
    one = x[:1, :1, :1, :1].detach()
    expected = conv_ref(one.expand_as(x).contiguous(), weight, bias, add, *layer)
    got = conv(one.expand_as(x), weight, bias, add, *layer)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5)


def test_addresses_beyond_two_to_the_31_are_right():
    """Check a second image that begins 2^31 values after the first."""
    (x, weight, bias, _), layer = case("a horizontal stack", torch.float16)
    _, channels, height, width = x.shape
    buffer = torch.empty_strided(
        (2, channels, height, width),
        (2**31, 1, channels * width, channels),
        dtype=torch.float16,
        device="meta",
    )
    if DEVICE == "cuda" and torch.cuda.mem_get_info()[0] < 6 * 2**30:
        pytest.skip("too little GPU memory is free")
    torch.use_deterministic_algorithms(False)  # the mode would fill, and so allocate, all of it
    storage = torch.empty(2**31 + x[0].numel(), dtype=torch.float16, device=DEVICE)
    far = storage.as_strided(buffer.shape, buffer.stride())
    far.copy_(x.detach())
    for near, there in ((x, far), (x.detach()[:, :, ::2], far[:, :, ::2])):
        expected = OURS.masked_conv2d_triton(near, weight, bias, None, *layer)
        got = OURS.masked_conv2d_triton(there, weight, bias, None, *layer)
        assert torch.equal(got, expected)
    grad = torch.ones_like(OURS.masked_conv2d_triton(x, weight, bias, None, *layer))
    size = list(weight.shape[2:])
    expected = OURS.masked_conv2d_grad_weight_triton(x.detach(), grad, size, *layer)
    assert torch.equal(OURS.masked_conv2d_grad_weight_triton(far, grad, size, *layer), expected)


def test_dead_taps_are_never_read_and_get_zero_gradient():
    (x, weight, bias, add), layer = case("a horizontal stack")
    kind, colors, in_parts, out_parts, _ = layer
    mask = causal_mask(
        weight.shape[1],
        weight.shape[0],
        tuple(weight.shape[2:]),
        mask_type=kind,
        colors=colors,
        in_parts=in_parts,
        out_parts=out_parts,
        device=DEVICE,
    )
    poisoned = weight.detach().masked_fill(~mask, math.nan).requires_grad_()
    expected = conv(x, weight, bias, add, *layer)
    got = conv(x, poisoned, bias, add, *layer)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    (grad,) = torch.autograd.grad(got[1].square().sum(), poisoned)
    assert not grad[~mask].any()
    assert grad[mask].all()


def test_the_future_changes_nothing():
    tensors, layer = case("a horizontal stack")
    x, *others = (tensor.detach() for tensor in tensors)
    before = conv(x, *others, *layer)
    changed = x.clone()
    changed[:, :, 2, 2:] = math.nan
    changed[:, :, 3:] = math.nan
    after = conv(changed, *others, *layer)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[:, :, :2], b[:, :, :2])
        assert torch.equal(a[:, :, 2, :2], b[:, :, 2, :2])
        assert b[:, :, 2, 2:].isnan().all()


@pytest.mark.usefixtures("_precision")
def test_the_gradient_of_the_weight_is_the_same_each_time_and_adds_up_many_splits():
    (x, weight, *_), layer = case("an output layer")
    x = normal(2, x.shape[1], 9, 11).to(x)
    grad = normal(2, len(weight), 9, 11, seed=1).to(x)
    run = lambda: OURS.masked_conv2d_grad_weight_triton(x, grad, [1, 1], *layer)  # noqa: E731
    inputs = weight.detach().requires_grad_()
    (expected,) = torch.autograd.grad(masked_conv2d_ref(x, inputs, None, *layer), inputs, grad)
    assert torch.equal(run(), run())
    torch.testing.assert_close(run(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("place", [0, 1], ids=["x", "weight"])
def test_second_derivatives_are_refused_rather_than_wrong(place):
    tensors, layer = case("an output layer")
    y = OURS.masked_conv2d_triton(*tensors, *layer)
    (grad,) = torch.autograd.grad(y.square().sum(), tensors[place], create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives need another backend"):
        torch.autograd.grad(grad.sum(), tensors[0])


def test_no_input_channels_leave_the_bias():
    x, weight, bias = torch.zeros(1, 0, 2, 2), torch.zeros(4, 0, 3, 3), torch.arange(4.0)
    x, weight, bias = (tensor.to(DEVICE) for tensor in (x, weight, bias))
    out = OURS.masked_conv2d_triton(x, weight, bias, None, "A")
    assert torch.equal(out, bias[None, :, None, None].expand(1, 4, 2, 2))


def test_nothing_in_gives_nothing():
    (x, weight, bias, add), layer = case("a vertical stack")
    tensors = [x[:0].detach().requires_grad_(), weight, bias, add[:0]]
    gated, y = conv(*tensors, *layer)
    assert gated.shape == (0, 35, 6, 5)
    assert y.shape == (0, 70, 6, 5)
    grads = torch.autograd.grad([gated, y], tensors, [gated, y])
    assert [grad.shape for grad in grads] == [tensor.shape for tensor in tensors]
    assert not grads[1].any()


# The work list.


@pytest.mark.parametrize(("block_out", "block_in"), [(2, 16), (4, 8), (16, 16)])
@pytest.mark.parametrize("kind", ["A", "B", "V", "V-first"])
def test_a_block_is_listed_if_and_only_if_it_has_a_live_tap(kind, block_out, block_in):
    mask = causal_mask(34, 22, (3, 3), mask_type=kind, in_parts=2, out_parts=2).numpy()
    products = find_products(mask, 1, block_out, block_in, torch.device("cpu"))
    listed = set()
    for entry, (down, right, block, weight_row) in enumerate(products.table.tolist()):
        assert weight_row == (3 * (down + 1) + right + 1) * 34 + block * block_in
        listed.add((int(products.owner[entry]), block, down + 1, right + 1))
    assert len(listed) == products.entries
    positions = itertools.product(
        range(0, 22, block_out), range(0, 34, block_in), range(3), range(3)
    )
    for out, inputs, row, col in positions:
        live = mask[out : out + block_out, inputs : inputs + block_in, row, col].any()
        assert live == ((out // block_out, inputs // block_in, row, col) in listed)


def test_few_channels_fill_their_blocks_with_live_taps_only():
    mask = causal_mask(3, 4, (7, 7), mask_type="A").numpy()
    products = find_products(mask, 1, 4, 32, torch.device("cpu"))
    assert products.lanes
    used = products.table[products.table[:, 3] >= 0]
    assert len(used) == mask.any(0).sum() == 24 * 3 + 2
    assert products.entries == math.ceil(len(used) / 32)


# As registered operators, in layers and in functional.


@pytest.mark.parametrize("channels_last", [True, slow(False)], ids=["channels_last", "contiguous"])
def test_the_operators_are_well_registered(channels_last):
    (x, weight, bias, add), layer = case("a horizontal stack", channels_last=channels_last)
    torch.use_deterministic_algorithms(False)
    detached = [t.detach() for t in (x, weight, bias, add)]
    calls = [
        (OURS.masked_conv2d_triton, (x, weight, bias, add, *layer)),
        (OURS.masked_conv2d_triton, (*detached[:2], None, None, *layer)),
        (OURS.masked_conv2d_gate_triton, (x, weight, bias, add, *layer)),
        (OURS.masked_conv2d_grad_input_triton, (detached[3], detached[1], *layer)),
        (OURS.masked_conv2d_grad_weight_triton, (detached[0], detached[3], [1, 5], *layer)),
    ]
    for operator, arguments in calls:
        torch.library.opcheck(operator, arguments)


def test_an_operator_computes_in_autocasts_dtype():
    (x, weight, bias, add), layer = case("a vertical stack")
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        out = OURS.masked_conv2d_triton(x, weight, bias, add, *layer)
    rounded = (t.detach().bfloat16() for t in (x, weight, bias, add))
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, OURS.masked_conv2d_triton(*rounded, *layer))
    (grad,) = torch.autograd.grad(out.float().sum(), weight)
    assert grad.dtype == torch.float32


NETWORKS = {
    "MaskedConv2d": (lambda: MaskedConv2d(17, 20, 3, mask_type="A"), 1, 17),
    "GatedMaskedConv2d": (lambda: GatedMaskedConv2d(17, 20, 3, mask_type="A"), 1, 17),
    "GatedLayer": (lambda: GatedLayer(17, 3), 2, 17),
    "PixelCNNBlock": (lambda: PixelCNNBlock(17, 3), 1, 34),
}


@pytest.fixture
def force(monkeypatch):
    """Return a function that forces every convolution and gate onto one backend."""
    names = ("masked_conv2d", "masked_conv2d_gate", "gate")
    functions = {name: getattr(functional, name) for name in names}

    def force_backend(backend):
        for name, function in functions.items():
            monkeypatch.setattr(functional, name, partial(function, backend=backend))

    return force_backend


def _results(network, inputs):
    outputs = network(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = sum(out.square().sum() for out in outputs)
    return [*outputs, *torch.autograd.grad(loss, [*inputs, *network.parameters()])]


def _network(name):
    make, count, channels = NETWORKS[name]
    network = randomize(make()).to(DEVICE)
    inputs = [normal(2, channels, 4, 5, seed=k).float().to(DEVICE) for k in range(count)]
    return network, [x.requires_grad_() for x in inputs]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("_precision")
def test_layers_give_the_same_on_this_backend(name, force):
    network, inputs = _network(name)
    force("reference")
    expected = _results(network, inputs)
    force("triton")
    for ours, theirs in zip(_results(network, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_compile_as_one_graph_and_export(name, force):
    network, inputs = _network(name)
    force("triton")
    torch.use_deterministic_algorithms(False)
    expected = _results(network, inputs)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(_results(compiled, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    exported = torch.export.export(network, tuple(inputs))
    assert any("triton" in str(node.target) for node in exported.graph.nodes)
    outputs = exported.module()(*inputs)
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    torch.testing.assert_close(first, expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (
            torch.zeros(1, 3, 4, 4).double(),
            "takes? float32, float16 or bfloat16, got torch.float64",
        ),
        (torch.zeros(1, 3, 4, 4, device="meta"), "need a GPU, or TRITON_INTERPRET=1.* got meta"),
    ],
)
def test_what_the_backend_cannot_run_it_says(x, says):
    weight = torch.zeros(4, 3, 3, 3).to(x)
    for run in (functional.masked_conv2d, functional.masked_conv2d_gate):
        with pytest.raises(ValueError, match=f"backend 'triton' cannot run this: .*{says}"):
            run(x, weight, mask_type="A", backend="triton")


def test_an_image_without_a_batch_is_a_batch_of_one():
    x, add, weight = normal(3, 5, 4), normal(4, 5, 4, seed=1), normal(4, 3, 3, 3, seed=2)
    x, add, weight = (tensor.to(DEVICE, torch.float32) for tensor in (x, add, weight))
    options = {"weight": weight, "mask_type": "A", "backend": "triton"}
    y = functional.masked_conv2d(x, add=add, **options)
    batch = functional.masked_conv2d_gate(x[None], add=add[None], **options)
    found = functional.masked_conv2d_gate(x, add=add, **options)
    assert y.shape == (4, 5, 4)
    for one, expected in zip((y, *found), (batch[1], *batch), strict=True):
        assert torch.equal(one, expected[0])


def test_outside_of_the_interpreter_a_cpu_is_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x, weight = torch.zeros(1, 3, 4, 4), torch.zeros(4, 3, 3, 3)
    with pytest.raises(ValueError, match="need a GPU, or TRITON_INTERPRET=1 on a CPU, got cpu"):
        functional.masked_conv2d(x, weight, mask_type="A", backend="triton")
    with pytest.raises(ValueError, match="masked_conv2d_triton needs a GPU"):
        OURS.masked_conv2d_triton(x, weight, None, None, "A")


def test_auto_passes_the_interpreter_over(caplog):
    x, weight = torch.zeros(1, 3, 4, 4), torch.zeros(4, 3, 3, 3)
    with caplog.at_level("DEBUG", logger="pixelsr"):
        functional.masked_conv2d(x, weight, mask_type="A")
    assert "'triton' passed over: " in caplog.text
