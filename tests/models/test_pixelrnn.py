"""Tests of the layers and networks of PixelRNN."""

import dataclasses
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pixelsr
from pixelsr import ConditioningNetwork, DiagonalBiLSTM, PixelRecursiveSR, RowLSTM, check_causality
from pixelsr.masks import causal_mask
from pixelsr.models import PixelModel
from pixelsr.nn import DiagonalBiLSTMLayer, RowLSTMLayer
from pixelsr.ops.lstm.reference import diagonal_lstm_ref, row_lstm_ref
from pixelsr.training.loss import TrainingLoss, check_size
from tests.support import helpers
from tests.support.helpers import normal, randomize

MODELS = [RowLSTM, DiagonalBiLSTM]
SMALL = {"channels": 14, "layers": 2, "first_kernel_size": 3, "head_channels": 25, "levels": 4}
random_images = functools.partial(helpers.random_images, levels=4)


# Layers.


def masked(module, x, out_parts=1):
    shape = module.weight.shape
    mask = causal_mask(shape[1], shape[0], tuple(shape[2:]), mask_type="B", out_parts=out_parts)
    return F.conv2d(x, module.weight * mask, module.bias, padding=module.padding)


def test_the_row_lstm_layer_is_its_formula():
    layer = randomize(RowLSTMLayer(7)).double()
    x = normal(2, 14, 5, 4)
    assert layer.input_to_state.weight.shape == (28, 14, 1, 3)
    gates = masked(layer.input_to_state, x, out_parts=4)
    h = row_lstm_ref(gates, layer.state_to_state, layer.initial_state)
    torch.testing.assert_close(layer(x), x + masked(layer.out, h), rtol=1e-12, atol=1e-12)


def test_the_diagonal_bilstm_layer_is_its_formula():
    layer = randomize(DiagonalBiLSTMLayer(7)).double()
    x = normal(2, 14, 5, 4)
    assert layer.input_to_state.weight.shape == (56, 14, 1, 1)
    a, b = masked(layer.input_to_state, x, out_parts=8).chunk(2, 1)
    h = diagonal_lstm_ref(a, layer.state_to_state, layer.initial_state)
    right = diagonal_lstm_ref(b, layer.state_to_state_reverse, layer.initial_state_reverse, True)
    h[:, :, 1:] += right[:, :, :-1]
    torch.testing.assert_close(layer(x), x + masked(layer.out, h), rtol=1e-12, atol=1e-12)


LAYERS = {
    "row": lambda **o: RowLSTMLayer(7, **o),
    "diagonal": lambda **o: DiagonalBiLSTMLayer(7, **o),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_conditioning_map_is_added_to_the_gates_of_every_direction(kind):
    layer = randomize(LAYERS[kind](conditioning=5)).double()
    x, conditioning = normal(2, 14, 5, 4), normal(2, 5, 5, 4, seed=1)
    plain = LAYERS[kind]().double()
    plain.load_state_dict(layer.state_dict(), strict=False)
    added = F.conv2d(conditioning, layer.condition.weight)
    plain.input_to_state.register_forward_hook(lambda module, given, out: out + added)
    torch.testing.assert_close(layer(x, conditioning), plain(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="the layer needs a 5-channel conditioning map"):
        layer(x)
    with pytest.raises(ValueError, match="the layer takes no conditioning map"):
        LAYERS[kind]().double()(x, conditioning)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_new_layer_starts_with_open_forget_gates_and_no_state(kind):
    layer = LAYERS[kind]()
    for bias in layer.input_to_state.bias.view(-1, 28):
        assert bias.tolist() == [0.0] * 7 + [1.0] * 7 + [0.0] * 14
    states = [value for name, value in layer.named_parameters() if "initial" in name]
    assert states
    assert not any(state.any() for state in states)
    spread = layer(torch.randn(4, 14, 8, 8)).std()
    assert 0.7 < spread < 1.5


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_compiles_as_one_graph(kind):
    layer = randomize(LAYERS[kind]())
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = normal(2, 14, 5, 4).float()
    grads = []
    for run in (layer, compiled):
        grads.append(torch.autograd.grad(run(x).square().sum(), list(layer.parameters())))
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_an_initial_state_or_an_input_of_another_shape_is_refused(kind):
    layer = LAYERS[kind]()
    with pytest.raises(ValueError, match="x has 13 channels, the weight expects 14"):
        layer(torch.zeros(1, 13, 5, 4))
    layer.initial_state = nn.Parameter(torch.zeros(2, 6))
    with pytest.raises(ValueError, match=r"initial_state must be \[2, 7\], got \[2, 6\]"):
        layer(torch.zeros(1, 14, 5, 4))
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        RowLSTMLayer(7, kernel_size=2)


# Networks.


@pytest.mark.parametrize("size", [(5, 4), (1, 1), (1, 6), (6, 1)], ids=str)
@pytest.mark.parametrize(("n", "colors", "levels"), [(2, 1, 2), (1, 3, 256), (0, 4, 16)])
@pytest.mark.parametrize("make", MODELS)
def test_a_network_gives_logits_that_cross_entropy_takes(make, n, colors, levels, size):
    images = random_images(n, colors, *size, levels=levels)
    model = make(channels=6, layers=2, head_channels=8, colors=colors, levels=levels)
    logits = model(images)
    assert logits.shape == (n, levels, colors, *size)
    F.cross_entropy(logits, images.long(), reduction="sum").backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("make", MODELS)
def test_a_step_of_training_lowers_its_loss(make):
    torch.manual_seed(0)
    model, images = make(**SMALL), random_images(4, 3, 5, 3)
    check_size(model, (5, 3))
    objective, losses = TrainingLoss(model), []
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    for _ in range(5):
        loss = objective(images).sum()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("make", MODELS)
def test_nats_are_those_of_the_logits(make):
    model, images = randomize(make(**SMALL)), random_images(3, 3, 5, 4)
    expected = pixelsr.functional.nll(model(images), images)
    torch.testing.assert_close(model.nll(images), expected)
    model.head.register_forward_hook(lambda *_: None)
    torch.testing.assert_close(model.nll(images), expected)


def test_the_default_sizes_are_the_papers_for_cifar():
    with torch.device("meta"):
        row, diagonal = RowLSTM(), DiagonalBiLSTM()
    for model in (row, diagonal):
        assert model.first.weight.shape == (256, 3, 7, 7)
        assert model.first.mask_type == "A"
        assert len(model.layers) == 12
        assert len(model.skips) == 0
        assert model.head.hidden.weight.shape == (1024, 256, 1, 1)
        assert model.head.out.weight.shape == (768, 1024, 1, 1)
        for layer in model.layers:
            assert layer.initial_state.shape == (2, 128)
            assert layer.out.weight.shape == (256, 128, 1, 1)
    for layer in row.layers:
        assert layer.input_to_state.weight.shape == (512, 256, 1, 3)
        assert layer.state_to_state.shape == (512, 128, 3)
    for layer in diagonal.layers:
        assert layer.input_to_state.weight.shape == (1024, 256, 1, 1)
        assert layer.state_to_state.shape == (512, 128, 2)
        assert layer.state_to_state_reverse.shape == (512, 128, 2)


@pytest.mark.parametrize("make", MODELS)
def test_skip_connections_lead_from_every_layer_to_the_output(make):
    model, images = randomize(make(**SMALL, skip=True)), random_images(1, 3, 5, 4)
    outputs = []
    for layer in model.layers:
        layer.register_forward_hook(lambda module, given, out: outputs.append(out))
    found = model.features(images)
    expected = sum(masked(skip, out) for skip, out in zip(model.skips, outputs, strict=True))
    torch.testing.assert_close(found, F.relu(expected[..., :-1]))
    check_causality(model, (3, 3))


@pytest.mark.parametrize("make", MODELS)
def test_a_saved_network_comes_back_bit_for_bit(tmp_path, make):
    model = randomize(make(**SMALL, skip=True, scale_factor=2))
    model.save_pretrained(tmp_path)
    loaded = PixelModel.from_pretrained(tmp_path)
    assert type(loaded) is make
    assert loaded.config == model.config
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.config.layers = 3
    images, small = random_images(1, 3, 4, 4), random_images(1, 3, 2, 2)
    assert torch.equal(loaded(images, small), model(images, small))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels must be a positive int, got 0"),
        ({"skip": 1}, "skip must be true or false, got 1"),
        ({"scale_factor": 3}, "scale_factor must be a power of two or None, got 3"),
        ({"scale_factor": 2.0}, r"scale_factor must be a power of two or None, got 2\.0"),
        ({"first_kernel_size": 4}, "kernel_size must be odd"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_is_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


# The receptive field.


@pytest.mark.parametrize("colors", [1, 3])
def test_the_diagonal_bilstm_reads_all_of_the_past(colors):
    report = check_causality(randomize(DiagonalBiLSTM(**SMALL, colors=colors)))
    assert report.blind == []


@pytest.mark.parametrize("colors", [1, 3])
def test_the_row_lstm_is_blind_beside_its_triangle_and_nowhere_else(colors):
    model = randomize(RowLSTM(**{**SMALL, "channels": 17, "head_channels": 49}, colors=colors))
    report = check_causality(model, (4, 7))
    expected = [
        (output, past)
        for output, past in pairs(4, 7, colors)
        if not in_triangle(output.row - past.row, past.column - output.column, layers=2)
    ]
    assert report.blind == expected


def pairs(height, width, colors):
    cells = [(r, c, k) for r in range(height) for c in range(width) for k in range(colors)]
    every = [pixelsr.analysis.causality.Position(*cell) for cell in cells]
    return [(output, past) for i, output in enumerate(every) for past in every[:i]]


def in_triangle(up, right, layers):
    """Return True if a layer stack sees this offset: each row up widens the view by one column.

    In its own row, each layer, including the first 3x3 one, sees one more column to the left.
    """
    return up >= 0 and -(up + layers + 1) <= right <= up


def is_past(position, size):
    order = torch.arange(size[0] * size[1]).view(size)
    return order < order[position]


@pytest.mark.parametrize("position", [(0, 0), (3, 0), (3, 8), (4, 3), (6, 8)], ids=str)
def test_the_field_of_one_diagonal_bilstm_layer_is_all_of_the_past(position):
    size = (7, 9)
    model = randomize(DiagonalBiLSTM(**{**SMALL, "layers": 1}, colors=1))
    assert torch.equal(
        pixelsr.receptive_field(model, size, position=position), is_past(position, size)
    )


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("position", [(0, 4), (7, 0), (7, 4), (6, 8)], ids=str)
def test_the_field_of_a_row_lstm_is_the_triangle_above(position, layers):
    size = (8, 9)
    model = randomize(RowLSTM(**{**SMALL, "layers": layers}, colors=1))
    expected = is_past(position, size)
    for row in range(size[0]):
        for column in range(size[1]):
            expected[row, column] &= in_triangle(position[0] - row, column - position[1], layers)
    assert torch.equal(pixelsr.receptive_field(model, size, position=position), expected)


def test_the_field_of_a_pixelcnn_ends_and_is_blind_above_on_the_right():
    size, position, layers = (8, 11), (6, 5), 4
    options = {**SMALL, "channels": 17, "layers": layers, "head_channels": 49, "colors": 1}
    model = randomize(pixelsr.PixelCNN(**options))
    expected = is_past(position, size)
    for row in range(size[0]):
        for column in range(size[1]):
            up, right = position[0] - row, column - position[1]
            expected[row, column] &= up <= layers and -layers <= right <= up
    assert torch.equal(pixelsr.receptive_field(model, size, position=position), expected)


def test_the_field_of_a_later_color_holds_its_own_pixel():
    model = randomize(DiagonalBiLSTM(**{**SMALL, "layers": 1}))
    red, green = (pixelsr.receptive_field(model, (3, 3), color=c) for c in (0, 1))
    assert red.dtype == torch.bool
    assert red.int().tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert green.int().tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]


def test_the_field_of_super_resolution_is_that_of_its_prior():
    conditioning = ConditioningNetwork(channels=4, blocks=1, scale_factor=2, levels=4)
    model = randomize(PixelRecursiveSR(DiagonalBiLSTM(**SMALL), conditioning))
    assert torch.equal(pixelsr.receptive_field(model, (3, 4)), is_past((2, 2), (4, 4)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"position": (5, 0)}, ValueError, r"must lie in 5 x 4 pixels, got \(5, 0\)"),
        ({"position": (0, -1)}, ValueError, r"must lie in 5 x 4 pixels, got \(0, -1\)"),
        ({"position": 3}, ValueError, r"position must be two ints \(row, column\), got 3"),
        ({"position": (1.0, 2)}, ValueError, r"position must be two ints"),
        ({"color": 3}, ValueError, "color must be an int below 3, got 3"),
        ({"image_size": (5,)}, ValueError, "image_size must be two positive ints"),
        ({"model": len}, TypeError, r"model must be a torch\.nn\.Module, got builtin"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_field_that_cannot_be_is_refused(options, error, message):
    options = {"model": RowLSTM(**SMALL), "image_size": (5, 4), **options}
    with pytest.raises(error, match=message):
        pixelsr.receptive_field(**options)


# As a prior, and conditioned on a smaller image.


@pytest.mark.parametrize("make", MODELS)
def test_it_is_a_prior_of_super_resolution(tmp_path, make):
    conditioning = ConditioningNetwork(channels=4, blocks=1, scale_factor=2, levels=4)
    model = randomize(PixelRecursiveSR(make(**SMALL), conditioning))
    images, small = random_images(2, 3, 4, 4), random_images(2, 3, 2, 2)
    logits = model(images, small)
    assert torch.equal(logits, model.conditioning(small) + model.prior(images))
    model.loss(images, small).backward()
    model.save_pretrained(tmp_path)
    assert torch.equal(PixelRecursiveSR.from_pretrained(tmp_path)(images, small), logits)
    drawn = pixelsr.sample(model, low_res=small[:, :, :1, :1], method="ancestral")
    assert drawn.shape == (2, 3, 2, 2)
    check_causality(model, (2, 2))


@pytest.mark.parametrize("scale_factor", [1, 2, 4])
@pytest.mark.parametrize("make", MODELS)
def test_the_multi_scale_form_draws_from_a_smaller_image(make, scale_factor):
    options = {**SMALL, "channels": 6, "head_channels": 12}
    model = randomize(make(**options, scale_factor=scale_factor)).eval()
    small = random_images(2, 3, 2, 1)
    images = random_images(2, 3, 2 * scale_factor, scale_factor)
    logits = model(images, small)
    assert model.scale_factor == scale_factor
    assert logits.shape == (2, 4, 3, 2 * scale_factor, scale_factor)
    changed = small.clone()
    changed[0, 1, 1, 0] ^= 1
    reached = (model(images, changed) != logits).flatten(1).any(1)
    assert reached.tolist() == [True, False]
    nll = pixelsr.functional.nll(logits, images)
    torch.testing.assert_close(model.nll(images, small), nll)
    drawn = pixelsr.sample(model, n=2, low_res=small, method="ancestral")
    assert drawn.shape == (4, 3, 2 * scale_factor, scale_factor)


@pytest.mark.parametrize("make", MODELS)
def test_every_layer_hears_of_the_small_image(make):
    model = randomize(make(**SMALL, scale_factor=2))
    images, small = random_images(1, 3, 4, 4), random_images(1, 3, 2, 2)
    before = model(images, small)
    for layer in model.layers:
        kept = layer.condition.weight.detach().clone()
        with torch.no_grad():
            layer.condition.weight.zero_()
        assert not torch.equal(model(images, small), before)
        with torch.no_grad():
            layer.condition.weight.copy_(kept)
    assert check_causality(model, (4, 2)).image_size == (4, 2)


@pytest.mark.parametrize("make", MODELS)
def test_a_small_image_that_does_not_fit_is_refused(make):
    images, small = random_images(1, 3, 4, 4), random_images(1, 3, 2, 2)
    name = make.__name__
    with pytest.raises(ValueError, match=f"{name} takes no low_res: it was made without"):
        make(**SMALL)(images, small)
    model = make(**SMALL, scale_factor=2)
    with pytest.raises(ValueError, match=f"{name} needs low_res: it was made with"):
        model(images)
    with pytest.raises(ValueError, match=r"upscaled low_res .*\[1, 4, 4\], got \[1, 6, 4\]"):
        model(images, random_images(1, 3, 3, 2))
    with pytest.raises(ValueError, match=r"low_res must be uint8 \[N, 3, H, W\], got"):
        model(images, small.float())
    with pytest.raises(ValueError, match=r"images must be uint8 \[N, 3, H, W\], got"):
        model(images[:, :2], small)


# Sampling.


@pytest.mark.parametrize("make", MODELS)
def test_ancestral_draws_are_those_of_the_logits_and_the_noise(make):
    model = randomize(make(**SMALL)).double().eval()
    known = random_images(1, 3, 3, 4, seed=5)
    mask = torch.zeros_like(known, dtype=torch.bool)
    mask[:, :, 0] = True
    drawn = pixelsr.sample(
        model, 2, image_size=(3, 4), known=known, known_mask=mask, seed=3, method="ancestral"
    )
    assert torch.equal(drawn[:, :, 0], known[:, :, 0].expand(2, -1, -1))
    noise = torch.empty(2, 36, 4)
    torch.ops.pixelsr.gumbel_noise_(noise, 3, 0, 0)
    logits = model(drawn).permute(0, 3, 4, 2, 1).flatten(1, 3)  # [N, positions, L]
    again = (logits + noise).argmax(2).view(2, 3, 4, 3).permute(0, 3, 1, 2)
    assert torch.equal(drawn[:, :, 1:].long(), again[:, :, 1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", MODELS)
def test_a_network_of_short_floats_is_near_that_of_float64(make, dtype):
    model, images = randomize(make(**SMALL)).to(dtype), random_images(2, 3, 5, 4)
    exact = make(**SMALL).double()
    exact.load_state_dict(model.state_dict())
    logits = model(images)
    assert logits.dtype == dtype
    error = (logits.double() - exact(images)).abs().max()
    assert error < 8 * torch.finfo(dtype).eps * exact(images).abs().max()
    drawn = pixelsr.sample(model, image_size=(2, 2), method="ancestral")
    assert drawn.shape == (1, 3, 2, 2)


@pytest.mark.parametrize("make", MODELS)
def test_a_network_compiles_as_one_graph(make):
    sizes = SMALL | {"layers": 1}
    model, images = randomize(make(**sizes, skip=True)), random_images(2, 3, 5, 4)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))
