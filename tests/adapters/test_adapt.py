"""Tests of `pixelsr.adapt`: every preset against a loop written by hand, and wrong presets."""

import copy
import io
import math
import pickle
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pixelsr
from pixelsr.adapters import presets
from pixelsr.adapters.presets import INPUTS, OUTPUTS
from pixelsr.sampling.api import sample_distributed
from pixelsr.sampling.noise import gumbel_noise
from pixelsr.utils.distributed import Workers
from pixelsr.utils.modules import can_copy
from tests.support.helpers import random_images, randomize

SIZE = (4, 3)
METHODS = ("ancestral", "cached")


class Causal(nn.Module):
    """A network that reads the pixels above and to the left: any order of colors is causal."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.head = nn.Conv2d(8, outputs, 1)
        mask = torch.ones(3, 3)
        mask[1, 1:] = mask[2] = 0
        self.register_buffer("mask", mask)

    def forward(self, x):
        x = F.conv2d(x, self.conv.weight * self.mask, self.conv.bias, padding=1)
        return self.shape(self.head(torch.tanh(x)))

    def shape(self, y):
        return y


class Codes(Causal):
    """A network of codes, which calls an embedding."""

    def __init__(self, levels: int) -> None:
        super().__init__(5, levels)
        self.embedding = nn.Embedding(levels, 5)

    def forward(self, codes):
        return super().forward(self.embedding(codes).permute(0, 3, 1, 2))


class OneHot(Causal):
    """A network of integers, ``[N, C, H, W]``."""

    def __init__(self, colors: int, levels: int) -> None:
        super().__init__(colors * levels, colors * levels)
        self.levels_of_input = levels

    def forward(self, integers):
        hot = F.one_hot(integers, self.levels_of_input).permute(0, 1, 4, 2, 3)
        return super().forward(hot.flatten(1, 2).to(self.mask.dtype))


def network(kind: type[nn.Module], *sizes: int) -> nn.Module:
    return randomize(kind(*sizes)).double().eval()


def with_shape(net: nn.Module, shape) -> nn.Module:
    """Let a network return a function of its last feature map."""
    net.shape = shape
    return net


def binary(shape) -> nn.Module:
    """Return a network with one output for a pixel."""
    return with_shape(network(Causal, 1, 1), shape)


# What a network gets and returns, in the words of the table in `adapt`: loops, one value a time.


def convert(preset, v, levels):
    """Return the argument of a float64 network for integers v, ``[N, C, H, W]``."""
    if preset == "integers":
        return v
    if preset == "codes":
        return v.squeeze(1)
    v = v.double()
    return {"unit": v / (levels - 1), "symmetric": 2 * v / (levels - 1) - 1, "values": v}[preset]


def pick(preset, y, row, col, color, colors, levels):
    """Return the logits ``[N, L]`` of one value from what the network returns."""
    here = y[..., row, col]
    if preset == "logits":
        return here[:, :, color]
    if preset == "levels":
        return here
    if preset == "level-major":
        return torch.stack([here[:, level * colors + color] for level in range(levels)], 1)
    if preset == "color-major":
        return torch.stack([here[:, color * levels + level] for level in range(levels)], 1)
    one = here.flatten()
    if preset == "bernoulli":
        return torch.stack([0 * one, one], 1)
    return torch.stack([torch.log(1 - one), torch.log(one)], 1)


@torch.no_grad()
def draw_by_hand(net, n, colors, levels, inputs, outputs, temperature=1.0, known=None):
    height, width = SIZE
    images = torch.zeros(n, colors, height, width, dtype=torch.int64)
    if known is not None:
        images[:, :, : height // 2] = known[:, :, : height // 2]
    for row in range(0 if known is None else height // 2, height):
        for col in range(width):
            for color in range(colors):
                y = net(convert(inputs, images, levels))
                logits = pick(outputs, y, row, col, color, colors, levels)
                place = (row * width + col) * colors + color
                noise = gumbel_noise(7, 3, n, place, 1, levels, torch.device("cpu"))[:, 0]
                images[:, color, row, col] = (logits / temperature + noise).argmax(1)
    return images.byte()


def to_five(colors, levels):
    return lambda y: y.unflatten(1, (levels, colors))


CASES = {
    "integers": (network(OneHot, 1, 4), 1, 4, "integers", "levels"),
    "integers in color": (network(OneHot, 3, 4), 3, 4, "integers", "level-major"),
    "codes": (network(Codes, 6), 1, 6, "codes", "levels"),
    "unit": (network(Causal, 1, 4), 1, 4, "unit", "levels"),
    "symmetric": (network(Causal, 3, 12), 3, 4, "symmetric", "color-major"),
    "values": (network(Causal, 2, 10), 2, 5, "values", "level-major"),
    "256 levels": (network(Causal, 1, 256), 1, 256, "unit", "color-major"),
    "logits": (with_shape(network(Causal, 3, 12), to_five(3, 4)), 3, 4, "unit", "logits"),
    "bernoulli": (binary(lambda y: y), 1, 2, "unit", "bernoulli"),
    "bernoulli, no channels": (binary(lambda y: y[:, 0]), 1, 2, "symmetric", "bernoulli"),
    "probability": (binary(torch.sigmoid), 1, 2, "values", "probability"),
    "probability, no channels": (
        binary(lambda y: y.sigmoid()[:, 0]),
        *(1, 2, "unit", "probability"),
    ),
}


def adapted(name):
    net, colors, levels, inputs, outputs = CASES[name]
    return pixelsr.adapt(net, colors=colors, levels=levels, inputs=inputs, outputs=outputs)


def test_the_cases_are_all_presets():
    assert {case[3] for case in CASES.values()} == set(INPUTS) == {*get_args(presets.InputPreset)}
    assert {case[4] for case in CASES.values()} == set(OUTPUTS) == {*get_args(presets.OutputPreset)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_images_are_those_of_a_loop_by_hand(name, method):
    net, *case = CASES[name]
    options = {"n": 4, "image_size": SIZE, "seed": 7, "first_index": 3, "method": method}
    for temperature in (1.0, 0.3):
        expected = draw_by_hand(net, 4, *case, temperature)
        drawn = pixelsr.sample(adapted(name), temperature=temperature, **options)
        assert torch.equal(drawn, expected)
        assert len(expected.unique()) > 1
    known = random_images(1, case[0], *SIZE, levels=case[1])
    mask = torch.zeros_like(known, dtype=torch.bool)
    mask[:, :, : SIZE[0] // 2] = True
    drawn = pixelsr.sample(adapted(name), known=known, known_mask=mask, **options)
    assert torch.equal(drawn, draw_by_hand(net, 4, *case, known=known))


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_the_network(name):
    net, colors, levels, inputs, outputs = CASES[name]
    images = random_images(2, colors, *SIZE, levels=levels)
    logits = adapted(name)(images)
    assert logits.shape == (2, levels, colors, *SIZE)
    y = net(convert(inputs, images.long(), levels))
    for row in range(SIZE[0]):
        for color in range(colors):
            expected = pick(outputs, y, row, 1, color, colors, levels)
            torch.testing.assert_close(logits[:, :, color, row, 1], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_a_report_of_what_outputs_read(name):
    model = adapted(name)
    assert pixelsr.check_causality(model, (2, 2)).colors == model.colors
    field = pixelsr.receptive_field(model, (3, 3))
    assert field.tolist() == [[True] * 3, [True, False, False], [False] * 3]


# Functions in place of presets.


class Dictionary(Causal):
    """A network that takes keywords and returns a dictionary."""

    def forward(self, x, *, scale):
        return {"logits": super().forward(scale * x), "loss": None}


class Pair(Causal):
    """A network that takes two arguments and returns a tuple."""

    def forward(self, x, scale):
        return super().forward(scale * x), x


def scaled(images):
    return images.double() / 3


class Unflatten(nn.Module):
    """A function of outputs with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, y):
        return self.scale * y.unsqueeze(2)


FUNCTIONS = {
    "argument": (Causal, scaled, lambda y: y.unsqueeze(2), 1),
    "tuple": (Pair, lambda images: (scaled(images), 2), lambda y: y[0].unsqueeze(2), 1),
    "dictionary": (
        Dictionary,
        lambda images: {"x": scaled(images), "scale": 2},
        lambda y: y["logits"].unsqueeze(2),
        1,
    ),
    "module": (Causal, scaled, Unflatten(), 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_the_place_of_presets(name):
    kind, inputs, outputs, times = FUNCTIONS[name]
    net = network(kind, 1, 4)
    model = pixelsr.adapt(net, colors=1, levels=4, inputs=inputs, outputs=outputs)
    images = random_images(2, 1, *SIZE, levels=4)
    plain = network(Causal, 1, 4)
    scale = 2 if name in ("tuple", "dictionary") else 1
    expected = times * plain(scale * images.double() / 3).unsqueeze(2)
    assert torch.equal(model(images), expected)
    drawn = pixelsr.sample(model, 2, image_size=SIZE, method="ancestral")
    assert drawn.shape == (2, 1, *SIZE)


def test_a_module_as_a_function_is_a_part_of_the_model():
    net, outputs = network(Causal, 1, 4), Unflatten()
    model = pixelsr.adapt(net, colors=1, levels=4, inputs="unit", outputs=outputs)
    assert [*model.state_dict()][-1] == "outputs.scale"
    assert model.float().outputs.scale.dtype == torch.float32


# The adapted model is a module as any other.


def test_the_network_is_not_touched():
    net = network(Causal, 1, 4).train()
    before, attributes = copy.deepcopy(net.state_dict()), dict(vars(net))
    model = pixelsr.adapt(net, colors=1, levels=4, inputs="unit", outputs="levels")
    pixelsr.sample(model, image_size=SIZE, method="ancestral")
    assert model.net is net
    assert vars(net) == attributes
    assert [*model.state_dict()] == [f"net.{name}" for name in before]
    assert all(torch.equal(model.state_dict()[f"net.{name}"], before[name]) for name in before)
    assert isinstance(model.colors, int)
    assert isinstance(model.levels, int)


def test_the_mode_is_that_of_the_network():
    net = network(Causal, 1, 4).train()
    model = pixelsr.adapt(net, colors=1, levels=4, inputs="unit", outputs="levels")
    assert model.training
    net.eval()
    assert not model.training
    model.train()
    assert net.training
    assert net.conv.training
    assert not model.eval().net.training


@pytest.mark.parametrize("preset", ["unit", "symmetric", "values"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_floats_have_the_dtype_of_the_network(preset, dtype):
    got = []
    net = network(Causal, 1, 256)
    net.register_forward_pre_hook(lambda module, given: got.append(given[0]))
    model = pixelsr.adapt(net, colors=1, levels=256, inputs=preset, outputs="levels").to(dtype)
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert model(images).dtype == dtype
    expected = convert(preset, images.double(), 256).to(dtype)
    assert got[0].dtype == dtype
    torch.testing.assert_close(got[0], expected, rtol=0, atol=torch.finfo(dtype).eps)


def test_a_network_without_floats_gets_float32():
    model = pixelsr.adapt(
        nn.Identity(), colors=1, levels=2, inputs="unit", outputs=lambda x: torch.stack([x, -x], 1)
    )
    assert model(torch.ones(1, 1, 2, 2).byte()).dtype == torch.float32


def test_copies_draw_the_same_images():
    model = adapted("codes")
    options = {"n": 2, "image_size": SIZE, "method": "ancestral"}
    expected = pixelsr.sample(model, **options)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
        torch.compile(model, backend="eager"),
        nn.DataParallel(model),
    ):
        assert torch.equal(pixelsr.sample(other, **options), expected)
    fresh = pixelsr.adapt(Codes(6), colors=1, levels=6, inputs="codes", outputs="levels").double()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(pixelsr.sample(fresh, **options), expected)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_a_wrapped_network_is_unwrapped(wrap):
    net = network(Causal, 1, 4)
    model = pixelsr.adapt(wrap(net), colors=1, levels=4, inputs="unit", outputs="levels")
    assert model.net is net


def test_a_compiled_model_gives_the_same_logits():
    model, images = adapted("symmetric"), random_images(2, 3, *SIZE, levels=4)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))


def test_gradients_reach_the_network():
    model = adapted("symmetric")
    model(random_images(2, 3, *SIZE, levels=4)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_workers_share_the_samples():
    model, options = adapted("symmetric"), {"n": 3, "image_size": SIZE}
    expected = pixelsr.sample(model, **options, method="ancestral")
    assert torch.equal(sample_distributed(Workers(), model, **options), expected)


def test_steps_and_logits_of_the_cached_sampler():
    model, images = adapted("integers in color"), random_images(2, 3, *SIZE, levels=4)
    expected = model(images)
    torch.testing.assert_close(pixelsr.sampling.logits(model, images), expected)
    state = pixelsr.sampling.start(model, 2, image_size=SIZE)
    logits = state.step()
    while logits is not None:
        row, col, color = state.position
        torch.testing.assert_close(logits, expected[:, :, color, row, col])
        logits = state.step(images[:, color, row, col])
    assert torch.equal(state.images, images)


@pytest.mark.parametrize("levels", [4, "four", None, torch.float64])
def test_weights_are_rounded_in_a_copy_of_a_model_with_plain_closures(levels):
    outputs = lambda y: y.unsqueeze(2) if levels else y  # noqa: E731
    net = network(Causal, 1, 4)
    model = pixelsr.adapt(
        net, colors=1, levels=4, inputs="unit", outputs=outputs if levels else "levels"
    )
    options = {"image_size": SIZE, "method": "ancestral"}
    drawn = pixelsr.sample(model, 8, weights="bfloat16", **options)
    rounded = copy.deepcopy(model)
    for parameter in rounded.parameters():
        parameter.data = parameter.data.bfloat16().double()
    assert torch.equal(drawn, pixelsr.sample(rounded, 8, **options))


def test_a_closure_over_a_module_cannot_be_copied():
    net = network(Causal, 1, 4)

    def through(images):
        return net.mask[0, 0] * scaled(images)

    def early(images):
        return late(images)

    for function, copies in ((scaled, True), (through, False), (early, False)):
        model = pixelsr.adapt(net, colors=1, levels=4, inputs=function, outputs="levels")
        assert can_copy(model) == copies
    late = scaled


def test_the_representation_names_presets_and_functions():
    model = pixelsr.adapt(
        network(Causal, 1, 4), colors=1, levels=4, inputs=scaled, outputs="levels"
    )
    assert "(\n  colors=1, levels=4, inputs=scaled, outputs='levels'\n  (net)" in repr(model)
    model.outputs = Unflatten()
    assert model.extra_repr().endswith("inputs=scaled, outputs=Unflatten")


# Wrong arguments.

GOOD = {"colors": 1, "levels": 4, "inputs": "unit", "outputs": "levels"}
BAD = {
    "colors": ({"colors": 0}, "colors must be a positive int, got 0"),
    "float colors": ({"colors": 1.0}, r"colors must be a positive int, got 1\.0"),
    "one level": ({"levels": 1}, "levels must be 2 to 256, got 1"),
    "levels": ({"levels": 257}, "levels must be 2 to 256, got 257"),
    "inputs": (
        {"inputs": "floats"},
        r"inputs must be one of \['integers', 'codes', 'unit', 'symmetric', 'values'\] or a "
        "function, got 'floats'",
    ),
    "outputs": (
        {"outputs": "codes"},
        r"outputs must be one of \['logits', 'levels', 'level-major', 'color-major', 'bernoulli', "
        r"'probability'\] or a function, got 'codes'",
    ),
    "codes in color": (
        {"colors": 3, "inputs": "codes", "outputs": "logits"},
        "inputs='codes' is for 1 color, got colors=3; expected 'integers'",
    ),
    "levels in color": (
        {"colors": 3},
        "outputs='levels' is for 1 color, got colors=3; expected 'level-major' or 'color-major'",
    ),
    "four-level Bernoulli": (
        {"outputs": "bernoulli"},
        "outputs='bernoulli' is for 1 color and 2 levels, got colors=1 and levels=4",
    ),
    "probability of colors": (
        {"outputs": "probability", "levels": 2, "colors": 3},
        "outputs='probability' is for 1 color and 2 levels, got colors=3 and levels=2",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_argument_gets_one_clear_sentence(case):
    changed, says = BAD[case]
    with pytest.raises(ValueError, match=f"^{says}$"):
        pixelsr.adapt(network(Causal, 1, 4), **{**GOOD, **changed})


@pytest.mark.parametrize(
    ("net", "changed", "says"),
    [
        (len, {}, "net must be a torch.nn.Module, got builtin_function_or_method"),
        (nn.Identity(), {"inputs": 3}, "inputs must be one of .* or a function, got int"),
        (nn.Identity(), {"outputs": None}, "outputs must be one of .* a function, got NoneType"),
    ],
)
def test_a_wrong_type_is_refused(net, changed, says):
    with pytest.raises(TypeError, match=f"^{says}$"):
        pixelsr.adapt(net, **{**GOOD, **changed})


def test_a_module_that_is_not_adapted_is_told_how():
    says = r"Causal must have the int attributes .*; use pixelsr\.adapt\(net, colors=\.\.\., levels"
    with pytest.raises(ValueError, match=says):
        pixelsr.sample(network(Causal, 1, 4), image_size=SIZE)


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (torch.zeros(1, 1, 4, 3), r"torch\.float32 \[1, 1, 4, 3\]"),
        (torch.zeros(1, 2, 4, 3).byte(), r"torch\.uint8 \[1, 2, 4, 3\]"),
        (torch.zeros(1, 4, 3).byte(), r"torch\.uint8 \[1, 4, 3\]"),
    ],
)
def test_wrong_images_are_refused(images, got):
    model = adapted("unit")
    with pytest.raises(ValueError, match=rf"images must be uint8 \[N, 1, H, W\], got {got}"):
        model(images)


# Wrong presets.

NETWORKS = {
    "integers": (OneHot(1, 4), ["integers"]),
    "codes": (Codes(4), ["codes"]),
    "floats": (Causal(1, 4), ["unit", "symmetric", "values"]),
}


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_wrong_inputs_name_those_that_fit(kind, inputs):
    net, fitting = NETWORKS[kind]
    model = pixelsr.adapt(net, **{**GOOD, "inputs": inputs})
    images = random_images(2, 1, *SIZE, levels=4)
    if inputs in fitting:
        assert model(images).shape == (2, 4, 1, *SIZE)
        model.check_outputs(SIZE)
        return
    names = " or ".join(map(repr, fitting))
    with pytest.raises(ValueError, match=rf"^{type(net).__name__}: .*; inputs={names} would fit$"):
        model(images)
    with pytest.raises(ValueError, match=rf"; inputs={names} would fit$"):
        pixelsr.sample(model, image_size=SIZE, method="ancestral")
    with pytest.raises(ValueError, match=rf"; inputs={names} would fit$"):
        pixelsr.check_causality(model, (2, 2))
    model = pixelsr.adapt(net, **{**GOOD, "inputs": inputs, "outputs": "logits"})
    with pytest.raises(ValueError, match=rf"; inputs={names} with outputs='levels' would fit$"):
        model(images)


SHAPES = {
    (1, 4): {
        "logits": (lambda y: y.unsqueeze(2), ["logits"]),
        "levels": (lambda y: y, ["levels", "level-major", "color-major"]),
    },
    (3, 4): {
        "logits": (to_five(3, 4), ["logits"]),
        "level-major": (lambda y: y, ["level-major", "color-major"]),
    },
    (1, 2): {
        "logits": (lambda y: y.unsqueeze(2), ["logits"]),
        "levels": (lambda y: y, ["levels", "level-major", "color-major"]),
        "bernoulli": (lambda y: y[:, :1] - 3, ["bernoulli"]),
        "bernoulli, no channels": (lambda y: y[:, 0] - 3, ["bernoulli"]),
        "probability": (lambda y: y[:, :1].sigmoid(), ["bernoulli", "probability"]),
    },
}


@pytest.mark.parametrize(
    ("colors", "levels", "kind", "outputs"),
    [
        (*sizes, kind, outputs)
        for sizes, kinds in SHAPES.items()
        for kind in kinds
        for outputs in OUTPUTS
        if presets.unsuitable(outputs, *sizes) is None  # the others are in BAD
    ],
)
def test_wrong_outputs_name_those_that_fit(colors, levels, kind, outputs):
    shape, fitting = SHAPES[colors, levels][kind]
    net = with_shape(network(Causal, colors, colors * levels), shape)
    model = pixelsr.adapt(net, colors=colors, levels=levels, inputs="unit", outputs=outputs)
    images = random_images(2, colors, *SIZE, levels=levels)
    of_one_shape = ["bernoulli", "probability"] if "bernoulli" in fitting else fitting
    if outputs in of_one_shape:
        assert model(images).shape == (2, levels, colors, *SIZE)
        return
    names = [name for name in fitting if colors > 1 or not name.endswith("-major")]
    choice = " or ".join(map(repr, names))
    says = rf"with outputs='{outputs}' the network must return \[N, .*\], got \[2, .*\]"
    with pytest.raises(ValueError, match=rf"^Causal: {says}; outputs={choice} would fit$"):
        model(images)


@pytest.mark.parametrize(
    ("net", "given", "says"),
    [
        (Causal(1, 6), {}, "levels=6 would fit"),
        (Causal(3, 12), {"colors": 3, "levels": 5, "outputs": "color-major"}, "levels=4 would fit"),
        (
            with_shape(Causal(3, 12), to_five(3, 4)),
            {"colors": 3, "levels": 5, "outputs": "logits"},
            "levels=4 would fit",
        ),
        (Causal(1, 1), {"levels": 9}, "levels=2 with outputs='bernoulli' would fit"),
        (Causal(1, 3), {"outputs": "logits"}, "levels=3 with outputs='levels' would fit"),
    ],
)
def test_wrong_levels_name_those_that_fit(net, given, says):
    model = pixelsr.adapt(net, **{**GOOD, **given})
    with pytest.raises(ValueError, match=rf", got \[1, .*\]; {says}$"):
        model(torch.zeros(1, model.colors, *SIZE).byte())


@pytest.mark.parametrize(
    ("net", "given"),
    [
        (Causal(3, 10), {"colors": 3, "outputs": "level-major"}),
        (Causal(1, 512), {}),
        (with_shape(Causal(1, 4), lambda y: y[..., 1:]), {}),
    ],
)
def test_a_wrong_shape_that_nothing_fits_is_reported(net, given):
    model = pixelsr.adapt(net, **{**GOOD, **given})
    with pytest.raises(ValueError, match=r"^with outputs=.* the network must .*, got \[[\d, ]*\]$"):
        model(torch.zeros(1, model.colors, *SIZE).byte())


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (lambda y: (y, 0), "a tuple, .* takes a tensor: .* for example outputs=lambda y: y[0]"),
        (lambda y: [y], "a list, .* takes a tensor: .* for example outputs=lambda y: y[0]"),
        (lambda y: {"out": y}, "a dict, .* for example outputs=lambda y: y['out']"),
        (lambda y: None, "a NoneType, .* a function, which returns logits [N, L, C, H, W]"),
    ],
)
def test_presets_of_outputs_need_a_tensor(shape, says):
    model = pixelsr.adapt(with_shape(Causal(1, 4), shape), **GOOD)
    pattern = says.replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ValueError, match=f"^the network returns {pattern}$"):
        model(torch.zeros(1, 1, *SIZE).byte())


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        (lambda y: y, r"outputs must return \[N, L, C, H, W\] = \[1, 4, 1, 4, 3\], got .*3\]; "),
        (lambda y: (y,), "outputs must return a tensor, got tuple; "),
        (lambda y: y[0].nothing, "'Tensor' object has no attribute 'nothing'; "),
        (lambda y: y.unsqueeze(2).long(), "outputs must .* floating-point .* got torch.int64; "),
    ],
)
def test_a_wrong_function_names_the_preset_that_fits(outputs, says):
    model = pixelsr.adapt(Causal(1, 4), **{**GOOD, "outputs": outputs})
    with pytest.raises(ValueError, match=f"^Causal: {says}outputs='levels' would fit$"):
        model(torch.zeros(1, 1, *SIZE).byte())


class Failing(Causal):
    """A network that raises an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(1, 4)
        self.error, self.calls = error, 0

    def forward(self, x):
        self.calls += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (KeyError("missing"), 7),
        (pixelsr.PlanError("a plan"), 1),
        (torch.OutOfMemoryError("memory"), 1),
    ],
)
def test_an_error_that_no_preset_mends_stays_as_it_is(error, calls):
    net = Failing(error)
    with pytest.raises(type(error)) as raised:
        pixelsr.adapt(net, **GOOD)(torch.zeros(1, 1, *SIZE).byte())
    assert raised.value is error
    assert net.calls == calls


# Wrong values.


def checked(net, colors, levels, outputs, size=SIZE, inputs="unit"):
    model = pixelsr.adapt(net, colors=colors, levels=levels, inputs=inputs, outputs=outputs)
    return pixelsr.sample(model, image_size=size, method="ancestral")


SOFTMAX = {
    "levels": (1, lambda y: y.softmax(1)),
    "logits": (3, lambda y: to_five(3, 4)(y).softmax(1)),
    "level-major": (3, lambda y: to_five(3, 4)(y).softmax(1).flatten(1, 2)),
    "color-major": (3, lambda y: to_five(3, 4)(y).softmax(1).transpose(1, 2).flatten(1, 2)),
}


@pytest.mark.parametrize("outputs", SOFTMAX)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_probabilities_in_place_of_logits_are_refused_with_the_remedy(outputs, dtype):
    colors, shape = SOFTMAX[outputs]
    net = with_shape(network(Causal, colors, 4 * colors).to(dtype), shape)
    says = rf"^Causal returns probabilities, expected logits for outputs='{outputs}'; outputs="
    with pytest.raises(ValueError, match=says) as raised:
        checked(net, colors, 4, outputs)
    remedy = str(raised.value).split("outputs=")[-1].removesuffix(" would fit")
    right = pixelsr.adapt(net, colors=colors, levels=4, inputs="unit", outputs=eval(remedy))
    wrong = pixelsr.adapt(net, colors=colors, levels=4, inputs="unit", outputs=outputs)
    images = random_images(2, colors, *SIZE, levels=4)
    torch.testing.assert_close(right(images), wrong(images).log())
    right.check_outputs(SIZE)


def test_a_function_that_returns_probabilities_is_refused():
    net = network(Causal, 1, 4)
    with pytest.raises(ValueError, match="outputs=<lambda>; outputs must return their logarithm"):
        checked(net, 1, 4, lambda y: y.softmax(1).unsqueeze(2))


@torch.no_grad()
def test_no_logits_are_mistaken_for_probabilities():
    sums_to_one = lambda y: y - y.mean(1, keepdim=True) + 0.25  # noqa: E731
    for shape in (lambda y: y.log_softmax(1), lambda y: 0 * y, torch.sigmoid, sums_to_one):
        checked(with_shape(network(Causal, 1, 4), shape), 1, 4, "levels")
    net = network(Causal, 1, 4)
    net.head.weight.zero_()
    net.head.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.5]))
    checked(net, 1, 4, "levels")


class Uniform(Causal):
    """A network of probabilities on one image alone: a logit that happens to lie in [0, 1]."""

    def shape(self, y):
        return torch.full_like(y, 0.25) + (y - y[:, :, :1, :1]) * 4


def test_all_three_images_have_to_look_like_probabilities():
    checked(network(Uniform, 1, 4), 1, 4, "levels")


@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_logits_in_place_of_probabilities_are_refused_with_their_range(scale):
    net = binary(lambda y: scale * y)
    says = r"^Causal returns numbers from -\d.* to .*, expected 0 to 1 .*; outputs='bernoulli'"
    with pytest.raises(ValueError, match=says):
        checked(net, 1, 2, "probability")


def test_certain_values_are_probabilities():
    net = binary(lambda y: (y > 0).double())
    images = checked(net, 1, 2, "probability")
    assert torch.equal(net(images.double()).byte(), images)


def test_nan_is_a_fault_of_the_logits():
    net = binary(lambda y: y.sigmoid() * math.nan)
    with pytest.raises(pixelsr.LogitsError, match="NaN"):
        checked(net, 1, 2, "probability")


SIGMOIDS = [
    lambda y: y.sigmoid(),
    lambda y: y.sigmoid()[:, 0],
    lambda y: 0.5 + 0.25 * torch.tanh(y),
    lambda y: F.pad(y[..., 1:], (1, 0)).sigmoid(),
]


@pytest.mark.parametrize("size", [SIZE, (1, 1)])
@pytest.mark.parametrize("scale", [0.01, 1, 10])
@pytest.mark.parametrize("shape", SIGMOIDS)
def test_a_sigmoid_in_place_of_a_logit_is_refused(shape, scale, size):
    net = binary(shape)
    net.head.weight.data *= scale
    says = "^Causal returns numbers from 0 to 1 whatever .*; outputs='probability' would fit$"
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=says):
        checked(net, 1, 2, "bernoulli", size)
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in before)


class Plane(Causal):
    """A network of probabilities that are multiplied by a mask, which is a parameter."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.plane = nn.Parameter(torch.zeros(SIZE))

    def shape(self, y):
        return self.plane * y.sigmoid()


def test_a_sigmoid_times_a_mask_that_is_a_parameter_is_refused():
    net = network(Plane)
    net.plane.data = random_images(1, 1, *SIZE, levels=2).double()
    with pytest.raises(ValueError, match="whatever its parameters are"):
        checked(net, 1, 2, "bernoulli")


@pytest.mark.parametrize("size", [SIZE, (1, 1)])
@pytest.mark.parametrize("shape", [lambda y: y / 100, lambda y: -y / 100, lambda y: y.relu()])
def test_small_logits_of_one_sign_are_not_mistaken_for_a_sigmoid(shape, size):
    checked(binary(shape), 1, 2, "bernoulli", size)


@torch.no_grad()
@pytest.mark.parametrize("size", [SIZE, (1, 1)])
@pytest.mark.parametrize("bias", [0.3, 0.0])
def test_small_logits_are_not_mistaken_for_a_sigmoid(bias, size):
    net = network(Causal, 1, 1)
    net.head.weight.mul_(1e-3)
    net.head.bias.fill_(bias + 1e-2 if bias else 0)
    checked(net, 1, 2, "bernoulli", size)


def test_the_zero_logits_of_a_new_network_are_not_mistaken_for_a_sigmoid():
    net = network(Causal, 1, 1)
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    checked(net, 1, 2, "bernoulli")


def test_a_network_that_cannot_be_copied_is_not_judged():
    net = network(Causal, 1, 1)
    inner = copy.deepcopy(net)
    with_shape(net, lambda y: inner.mask[0, 0] * y.sigmoid())
    checked(net, 1, 2, "bernoulli")


def test_a_network_of_fewer_levels_is_refused():
    net = network(Codes, 4)
    with_shape(net, lambda y: y.repeat(1, 2, 1, 1))
    says = r"^Codes takes an image of zeros, but fails on one of the value 7, .* levels=8 \(index"
    with pytest.raises(ValueError, match=says):
        checked(net, 1, 8, "levels", inputs="codes")


class SoftmaxInEval(Causal):
    """A network that returns logits in train mode and probabilities in eval mode."""

    def shape(self, y):
        return y if self.training else y.softmax(1)


def test_each_mode_is_checked_once():
    net = network(SoftmaxInEval, 1, 4).train()
    calls = []
    model = pixelsr.adapt(net, **GOOD)
    options = {"image_size": SIZE, "method": "ancestral"}
    expected = pixelsr.sample(model, **options)
    net.register_forward_hook(lambda *given: calls.append(given))
    assert torch.equal(pixelsr.sample(model, **options), expected)
    assert len(calls) == SIZE[0] * SIZE[1]
    net.eval()
    for _ in range(2):  # a refusal is not forgotten
        with pytest.raises(ValueError, match="returns probabilities"):
            pixelsr.sample(model, **options)
