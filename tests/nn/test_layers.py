import inspect
import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pixelsr import functional
from pixelsr.masks import causal_mask
from pixelsr.nn import (
    DiagonalBiLSTMLayer,
    GatedLayer,
    GatedMaskedConv2d,
    MaskedConv2d,
    PixelCNNBlock,
    RowLSTMLayer,
)
from tests.support.faulty import WeightDataMasked
from tests.support.helpers import normal, randomize

TYPES = ["A", "B", "V-first", "V"]
EVERY = [
    (kernel, kind)
    for kernel, kind in itertools.product([(3, 3), (5, 3), (1, 5), (5, 1), (1, 1)], TYPES)
    if kind != "V-first" or kernel[0] > 1
]


def layer(kernel, kind, dtype=torch.float64, **options):
    sizes = {"in_channels": 8, "out_channels": 14, "in_parts": 2, "out_parts": 2, **options}
    return randomize(MaskedConv2d(kernel_size=kernel, mask_type=kind, **sizes)).to(dtype)


def definition(x, conv):
    mask = causal_mask(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        mask_type=conv.mask_type,
        colors=conv.colors,
        in_parts=conv.in_parts,
        out_parts=conv.out_parts,
    )
    weight = conv.weight * mask
    return F.conv2d(x, weight, conv.bias, padding=conv.padding, dilation=conv.dilation)


def by_backend(x, conv, backend, add=None):
    return functional.masked_conv2d(
        x,
        conv.weight,
        conv.bias,
        add=add,
        mask_type=conv.mask_type,
        colors=conv.colors,
        in_parts=conv.in_parts,
        out_parts=conv.out_parts,
        dilation=conv.dilation[0],
        backend=backend,
    )


def test_state_dict_is_that_of_conv2d_and_loads_one():
    plain = nn.Conv2d(8, 14, 3, padding=1)
    masked = MaskedConv2d(8, 14, 3, mask_type="B")
    assert list(masked.state_dict()) == list(plain.state_dict()) == ["weight", "bias"]
    masked.load_state_dict(plain.state_dict())
    assert torch.equal(masked.weight, plain.weight)
    assert isinstance(masked, nn.Conv2d)
    assert list(MaskedConv2d(8, 14, 3, mask_type="B", bias=False).state_dict()) == ["weight"]


@pytest.mark.parametrize("size", [(6, 5), (1, 1), (1, 7), (7, 1), (2, 2)], ids=str)
@pytest.mark.parametrize(("kernel", "kind"), EVERY, ids=str)
def test_every_backend_gives_the_masked_convolution_and_its_gradients(kernel, kind, size):
    conv, x = layer(kernel, kind), normal(2, 8, *size).requires_grad_()
    expected = definition(x, conv)
    grad_out = normal(*expected.shape, seed=1)
    inputs = [x, conv.weight, conv.bias]
    expected_grads = torch.autograd.grad(expected, inputs, grad_out)
    for backend in ("reference", "cropped", "auto"):
        out = by_backend(x, conv, backend)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
        grads = torch.autograd.grad(out, inputs, grad_out)
        torch.testing.assert_close(grads, expected_grads, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("colors", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", TYPES)
def test_dilation_and_other_numbers_of_colors(kind, colors):
    conv = layer((3, 5), kind, colors=colors, dilation=2)
    x = normal(2, 8, 7, 9)
    torch.testing.assert_close(conv(x), definition(x, conv), rtol=1e-12, atol=1e-12)
    assert conv(x).shape == (2, 14, 7, 9)


@pytest.mark.parametrize("kind", TYPES)
def test_float32_is_as_near_to_float64_as_the_librarys_convolution(kind):
    conv, x = layer((5, 5), kind), normal(2, 8, 9, 9)
    right = definition(x, conv)
    conv.float()
    library = (definition(x.float(), conv).double() - right).abs().max()
    assert (conv(x.float()).double() - right).abs().max() <= 2 * library + 1e-7


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("backend", ["reference", "cropped"])
def test_strided_inputs_and_gradients_are_read_as_they_lie(kind, backend):
    conv = layer((3, 3), kind)
    dense = normal(2, 8, 6, 5)
    poisoned = torch.full((4, 11, 9, 14), torch.nan, dtype=torch.float64)
    slice_of_larger = poisoned[::2, 2:10, 1:7, 3:13:2].copy_(dense)
    grad_out = normal(2, 14, 6, 5, seed=1)
    expected = torch.autograd.grad(definition(dense, conv), list(conv.parameters()), grad_out)
    for x in (slice_of_larger, dense.to(memory_format=torch.channels_last)):
        for grad in (grad_out, grad_out.to(memory_format=torch.channels_last)):
            out = by_backend(x, conv, backend)
            torch.testing.assert_close(out, definition(dense, conv), rtol=1e-12, atol=1e-12)
            grads = torch.autograd.grad(out, list(conv.parameters()), grad)
            torch.testing.assert_close(grads, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("only", ["x", "weight", "bias"])
def test_a_gradient_is_made_where_it_is_wanted_and_only_there(only):
    conv, x = layer((3, 3), "B"), normal(2, 8, 6, 5)
    conv.weight.requires_grad_(only == "weight")
    conv.bias.requires_grad_(only == "bias")
    x.requires_grad_(only == "x")
    wanted = {"x": x, "weight": conv.weight, "bias": conv.bias}[only]
    expected = torch.autograd.grad(definition(x, conv).square().sum(), wanted)
    conv(x).square().sum().backward()
    torch.testing.assert_close(wanted.grad, expected[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "cropped"])
@pytest.mark.parametrize(("kernel", "kind"), EVERY, ids=str)
def test_dead_taps_get_exactly_zero_gradient(kernel, kind, backend):
    conv, x = layer(kernel, kind), normal(2, 8, 6, 5)
    by_backend(x, conv, backend).square().sum().backward()
    mask = causal_mask(8, 14, kernel, mask_type=kind, in_parts=2, out_parts=2)
    assert (conv.weight.grad[~mask] == 0).all()
    reachable = mask & (conv.weight.grad != 0)
    assert torch.equal(reachable, mask)


def test_masking_by_weight_data_would_leave_dead_taps_a_gradient():
    conv, x = randomize(WeightDataMasked(8, 14, 3, mask_type="B")).double(), normal(2, 8, 6, 5)
    conv(x).square().sum().backward()
    assert (conv.weight.grad[~causal_mask(8, 14, (3, 3), mask_type="B")] != 0).any()


@pytest.mark.parametrize("kind", TYPES)
def test_dead_taps_are_not_read(kind):
    conv, x = layer((3, 3), kind), normal(2, 8, 6, 5)
    before = conv(x)
    mask = causal_mask(8, 14, (3, 3), mask_type=kind, in_parts=2, out_parts=2)
    with torch.no_grad():
        conv.weight[~mask] = 1e6
    assert torch.equal(conv(x), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("kind", "backend"), list(itertools.product(TYPES, ["reference", "cropped"]))
)
def test_a_changed_future_leaves_the_past_equal_bit_for_bit(kind, backend, dtype):
    conv, x = layer((3, 3), kind, dtype, in_parts=1, out_parts=1), normal(1, 8, 5, 4, dtype=dtype)
    changed = x.clone()
    changed[:, :, 2, 2:] += 7  # 8 channels: groups 3, 3, 2
    changed[:, :, 3:] -= 5
    if kind == "B":
        changed[:, :3, 2, 2] = x[:, :3, 2, 2]  # its own pixel's first group is past for the second
    old, new = (by_backend(each, conv, backend) for each in (x, changed))
    same = (old == new)[0]
    assert same[:, :2].all()
    assert same[:, 2, :2].all() if kind != "V" else not same[:, 2, 1].any()
    if kind == "A":
        assert same[:5, 2, 2].all()  # 14 channels: groups 5, 5, 4
        assert not same[5:, 2, 2].any()
    if kind == "B":
        assert same[:5, 2, 2].all()
        assert not same[5:, 2, 2].any()
    if kind == "V-first":
        assert same[:, 2].all()
    assert not same[:, 4].any()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("backend", ["reference", "cropped"])
def test_gradcheck(kind, backend):
    conv = layer((3, 3), kind, in_channels=6, out_channels=6)
    x = normal(2, 6, 3, 4).requires_grad_()
    mask = causal_mask(6, 6, (3, 3), mask_type=kind, in_parts=2, out_parts=2)

    def run(x, weight, bias):
        options = {"mask_type": kind, "in_parts": 2, "out_parts": 2, "backend": backend}
        return functional.masked_conv2d(x, weight, bias, **options)

    inputs = (x, (conv.weight * mask).detach().requires_grad_(), conv.bias)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=False)


@pytest.mark.parametrize("kind", ["A", "V-first"])
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
def test_the_operator_is_well_registered(kind, grad, last):
    conv, x = layer((3, 3), kind), normal(2, 8, 4, 5)
    if last:
        x = x.to(memory_format=torch.channels_last)
    x.requires_grad_(grad)
    weight, bias = (parameter.detach().requires_grad_(grad) for parameter in conv.parameters())
    torch.library.opcheck(torch.ops.pixelsr.masked_conv2d, (x, weight, bias, kind, 3, 2, 2, 1))


LAYERS = {
    "MaskedConv2d": (lambda: MaskedConv2d(7, 7, 3, mask_type="A"), 1, 7),
    "GatedLayer": (lambda: GatedLayer(7, 3), 2, 7),
    "PixelCNNBlock": (lambda: PixelCNNBlock(7, 3), 1, 14),
}


def _check_compiled_equals_eager(name, backend, tolerance):
    make, count, channels = LAYERS[name]
    module = randomize(make())
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    inputs = [normal(2, channels, 5, 4, dtype=torch.float32, seed=i) for i in range(count)]
    grads = []
    for run in (module, compiled):
        out = run(*inputs)
        loss = sum(each.square().sum() for each in (out if count == 2 else [out]))
        grads.append(torch.autograd.grad(loss, list(module.parameters())))
    torch.testing.assert_close(*grads, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_compiles_as_one_graph(name):
    _check_compiled_equals_eager(name, "aot_eager", 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_compiles_to_code(name):
    _check_compiled_equals_eager(name, "inductor", 1e-4)


def test_autocast_computes_in_bfloat16_and_leaves_float64_alone():
    conv, x = layer((3, 3), "A", torch.float32), normal(2, 8, 6, 5, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = conv(x)
        exact = conv.double()(x.double())
    assert out.dtype == torch.bfloat16
    assert exact.dtype == torch.float64
    error = (out.double() - exact).abs().max()
    conv.bfloat16()
    assert torch.equal(out, conv(x.bfloat16()))
    library = (definition(x.bfloat16(), conv).double() - exact).abs().max()
    assert error <= 2 * library


def test_shapes_can_be_had_on_the_meta_device():
    with torch.device("meta"):
        assert MaskedConv2d(3, 7, 3, mask_type="A")(torch.zeros(2, 3, 5, 4)).shape == (2, 7, 5, 4)


def test_gated_layer_is_its_formula():
    gated = randomize(GatedLayer(7, 5)).double()
    vertical, horizontal = normal(2, 7, 6, 5), normal(2, 7, 6, 5, seed=1)

    def conv(module, x, kind, parts, padding):
        shape = module.weight.shape
        mask = causal_mask(shape[1], shape[0], tuple(shape[2:]), mask_type=kind, out_parts=parts)
        return F.conv2d(x, module.weight * mask, module.bias, padding=padding)

    v = conv(gated.vertical, vertical, "V", 1, 2)
    link = F.conv2d(v, gated.link.weight, gated.link.bias)
    h = conv(gated.horizontal, horizontal, "B", 2, (0, 2)) + link
    h = torch.tanh(h[:, :7]) * torch.sigmoid(h[:, 7:])
    expected = (
        torch.tanh(v[:, :7]) * torch.sigmoid(v[:, 7:]),
        horizontal + conv(gated.out, h, "B", 1, 0),  # the residual is added once
    )
    torch.testing.assert_close(gated(vertical, horizontal), expected, rtol=1e-12, atol=1e-12)


def test_pixelcnn_block_is_its_formula():
    block = randomize(PixelCNNBlock(7, 3)).double()
    x = normal(2, 14, 6, 5)

    def conv(module, x, padding):
        shape = module.weight.shape
        mask = causal_mask(shape[1], shape[0], tuple(shape[2:]), mask_type="B")
        return F.conv2d(F.relu(x), module.weight * mask, module.bias, padding=padding)

    h = conv(block.conv, conv(block.down, x, 0), 1)
    expected = x + conv(block.up, h, 0)  # the residual is added once
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)
    assert block.up.weight.shape == (14, 7, 1, 1)


@pytest.mark.parametrize("kind", TYPES)
def test_a_layer_tells_its_mask(kind):
    conv = layer((3, 5), kind)
    expected = causal_mask(8, 14, (3, 5), mask_type=kind, in_parts=2, out_parts=2)
    assert torch.equal(conv.mask(), expected)
    assert conv.to("meta").mask().device.type == "meta"


WEIGHT = torch.zeros(6, 3, 3, 3)


@pytest.mark.parametrize(
    ("x", "weight", "options", "message"),
    [
        (torch.zeros(3, 4), WEIGHT, {}, r"x \[N, C_in, H, W\] or \[C_in, H, W\].*got \[3, 4\]"),
        (torch.zeros(1, 4, 4, 4), WEIGHT, {}, "x has 4 channels, the weight expects 3"),
        (torch.zeros(1, 3, 4, 4).double(), WEIGHT, {}, "must have one dtype, got"),
        (torch.zeros(1, 3, 4, 4, device="meta"), WEIGHT, {}, "must have one device"),
        (torch.zeros(1, 3, 4, 4), WEIGHT, {"mask_type": "C"}, "mask_type must be one of"),
        (torch.zeros(1, 3, 4, 4), WEIGHT[..., :2], {}, "kernel_size must be odd"),
        (torch.zeros(1, 3, 4, 4), WEIGHT, {"bias": torch.zeros(5)}, r"bias must be \[6\], got"),
        (
            torch.zeros(1, 3, 4, 4),
            WEIGHT,
            {"dilation": 0},
            "dilation must be a positive int, got 0",
        ),
        (torch.zeros(1, 3, 4, 4), WEIGHT, {"dilation": 2.0}, r"positive int, got 2\.0"),
        (torch.zeros(1, 3, 4, 4), WEIGHT, {"dilation": (1, 2)}, r"positive int, got \(1, 2\)"),
        (torch.zeros(1, 3, 4, 4), WEIGHT, {"in_parts": 2}, "3 channels cannot be cut into 2"),
        (torch.zeros(1, 3, 4, 4), WEIGHT, {"backend": "gpu"}, "backend must be auto or one of"),
        (
            torch.zeros(1, 3, 4, 4, dtype=torch.int64),
            WEIGHT.long(),
            {"backend": "cropped"},
            "backend 'cropped' cannot run this: it takes floating-point input, got torch.int64",
        ),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_convolution_that_cannot_be_is_refused(x, weight, options, message):
    with pytest.raises(ValueError, match=message):
        functional.masked_conv2d(x, weight, **{"mask_type": "B", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"mask_type": "a"}, "mask_type must be one of"),
        ({"colors": 0}, "colors must be positive"),
        ({"in_parts": 2}, "3 channels cannot be cut into 2 equal parts"),
        ({"out_parts": 4}, "6 channels cannot be cut into 4 equal parts"),
        ({"kernel_size": (1, 3), "mask_type": "V-first"}, "needs a kernel of 3 rows"),
        ({"dilation": 0}, "dilation must be a positive int, got 0"),
        ({"dilation": 2.0}, r"dilation must be a positive int, got 2\.0"),
        ({"dilation": (1, 2)}, r"dilation must be a positive int, got \(1, 2\)"),
        ({"kernel_size": 3.0}, r"kernel_size must be an int or a pair of ints, got 3\.0"),
        ({"kernel_size": (3, 3.0)}, r"kernel_size must be .* a pair of ints, got \(3, 3\.0\)"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size must be .* a pair of ints, got \(3, 3, 3\)"),
        ({"kernel_size": "3"}, "kernel_size must be an int or a pair of ints, got '3'"),
        ({"padding": 0}, r'padding must be "same", which is \(1, 1\) for kernel_size .*, got 0'),
        ({"padding": (1, 2)}, r"padding must be .*, got \(1, 2\)"),
        ({"padding": "valid"}, "padding must be .*, got 'valid'"),
        ({"padding": 1, "dilation": 2}, r"which is \(2, 2\) .* dilation 2, got 1"),
    ],
    ids=str,
)
def test_a_layer_that_cannot_be_is_refused_when_it_is_made(options, message):
    sizes = {"in_channels": 3, "out_channels": 6, "kernel_size": 3, "mask_type": "A", **options}
    with pytest.raises(ValueError, match=message):
        MaskedConv2d(**sizes)


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (MaskedConv2d, 3),
        (GatedMaskedConv2d, 3),
        (GatedLayer, 2),
        (PixelCNNBlock, 2),
        (RowLSTMLayer, 2),
        (DiagonalBiLSTMLayer, 1),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_comes_after_the_sizes_is_given_by_keyword(make, most):
    """Check that a call in the order of `nn.Conv2d`, with a stride, is refused."""
    kinds = [p.kind for p in inspect.signature(make).parameters.values()]
    positional, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    assert kinds == [positional] * most + [keyword] * (len(kinds) - most)


@pytest.mark.parametrize("padding", ["same", (2, 4)], ids=str)
def test_the_padding_keeps_the_size(padding):
    conv = layer((3, 5), "B", padding=padding, dilation=2)
    x = normal(2, 8, 6, 5)
    assert conv.padding == (2, 4)
    torch.testing.assert_close(conv(x), definition(x, conv))
    assert MaskedConv2d(3, 6, 7, mask_type="A", padding=3).padding == (3, 3)


FACTORIES = {
    "MaskedConv2d": lambda **o: MaskedConv2d(7, 7, 3, mask_type="A", **o),
    "GatedMaskedConv2d": lambda **o: GatedMaskedConv2d(7, 8, 3, mask_type="A", **o),
    "GatedLayer": lambda **o: GatedLayer(7, 3, **o),
    "PixelCNNBlock": lambda **o: PixelCNNBlock(7, **o),
    "RowLSTMLayer": lambda **o: RowLSTMLayer(7, conditioning=2, **o),
    "DiagonalBiLSTMLayer": lambda **o: DiagonalBiLSTMLayer(7, conditioning=2, **o),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_layer_is_made_on_a_device_and_of_a_dtype(name):
    double = FACTORIES[name](dtype=torch.float64)
    assert {parameter.dtype for parameter in double.parameters()} == {torch.float64}
    outline = FACTORIES[name](device="meta", dtype=torch.bfloat16)
    assert {str(parameter.device) for parameter in outline.parameters()} == {"meta"}
    assert {parameter.dtype for parameter in outline.parameters()} == {torch.bfloat16}
    names = list(double.state_dict())
    assert list(outline.state_dict()) == list(FACTORIES[name]().state_dict()) == names


@pytest.mark.parametrize("name", FACTORIES)
def test_an_image_without_a_batch_is_a_batch_of_one(name):
    module = randomize(FACTORIES[name](dtype=torch.float64))
    channels = {"MaskedConv2d": [7], "GatedMaskedConv2d": [7], "GatedLayer": [7, 7]}
    channels |= {"PixelCNNBlock": [14]}
    inputs = [normal(c, 5, 4, seed=c) for c in channels.get(name, [14, 2])]
    out, expected = module(*inputs), module(*(x[None] for x in inputs))
    out, expected = (maps if isinstance(maps, tuple) else (maps,) for maps in (out, expected))
    for one, batch in zip(out, expected, strict=True):
        assert torch.equal(one, batch[0])
    parameters = list(module.parameters())
    own = torch.autograd.grad(sum(one.square().sum() for one in out), parameters)
    of_batch = torch.autograd.grad(sum(batch.square().sum() for batch in expected), parameters)
    assert all(map(torch.equal, own, of_batch))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_mask_may_end_above_the_image(rows):
    conv, x = layer((3, 3), "V-first", dilation=3), normal(2, 8, rows, 4)
    for given in (x, x.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(conv(given), by_backend(x, conv, "reference"))


def test_the_residual_of_an_image_without_a_batch_has_none_either():
    conv, x, add = layer((3, 3), "B"), normal(8, 5, 4), normal(14, 5, 4, seed=1)
    for backend in ("reference", "cropped"):
        call = partial(by_backend, conv=conv, backend=backend)
        assert torch.equal(call(x, add=add), call(x[None], add=add[None])[0])
    with pytest.raises(ValueError, match=r"the output, \[14, 5, 4\], got \[1, 14, 5, 4\]"):
        conv(x, add=add[None])


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"in_channels": 1}, "3 color groups needs an input channel for each, got 1;"),
        ({"in_channels": 2}, "got 2; for gray images pass colors=1"),
        ({"in_channels": 4, "in_parts": 2}, "got 4 in 2 parts"),
        ({"in_channels": 3, "colors": 4}, "4 color groups needs .* got 3"),
    ],
)
def test_a_first_layer_without_a_channel_for_each_color_is_refused(sizes, says):
    options = {"colors": 3, "in_parts": 1, **sizes}
    with pytest.raises(ValueError, match=says):
        MaskedConv2d(out_channels=16, kernel_size=7, mask_type="A", **options)
    with pytest.raises(ValueError, match=says):
        GatedMaskedConv2d(out_channels=16, kernel_size=7, mask_type="A", **options)
    channels = options.pop("in_channels")
    x, weight = torch.zeros(1, channels, 4, 4), torch.zeros(6, channels, 3, 3)
    with pytest.raises(ValueError, match=says):
        functional.masked_conv2d(x, weight, mask_type="A", **options)


def test_a_gray_first_layer_reads_no_own_pixel():
    layer = MaskedConv2d(1, 16, 7, mask_type="A", colors=1)
    assert not layer.mask()[:, :, 3, 3].any()
