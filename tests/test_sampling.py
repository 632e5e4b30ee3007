"""Sampling: every method the same pictures, and the pictures of the right distribution."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import sampling
from pixelsr.functional import nats
from pixelsr.models import GatedPixelCNN
from pixelsr.sampling.methods import METHODS, drawing
from pixelsr.sampling.noise import draw, gumbel_noise
from pixelsr.sampling.request import make_request
from tests.helpers import randomise
from tests.networks import NETWORKS, Network, inputs, network

TEMPERATURE = 0.5  # makes the past matter: see `tests.helpers.randomise`


def sample(model: nn.Module, n: int = 2, **options) -> Tensor:
    return pixelsr.sample(
        model, n, **{"temperature": TEMPERATURE, **inputs(model, count=2), **options}
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_cached_and_ancestral_draw_equal_pictures_in_float64(name):
    model = network(name)
    assert torch.equal(sample(model), sample(model, method="ancestral"))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 7)])
def test_odd_sizes_are_equal_too(size):
    model = network("GatedPixelCNN")
    pictures = sample(model, image_size=size)
    assert pictures.shape == (2, 3, *size)
    assert torch.equal(pictures, sample(model, image_size=size, method="ancestral"))


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelCNN"])
def test_a_layer_zeroed_in_one_method_changes_its_pictures(name):
    """The comparison above sees a wrong sampler: one that has lost any one of its layers."""
    model, options = network(name), {"n": 16, "temperature": 0.05}
    truth = sample(model, method="ancestral", **options)
    for layer in model.modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        weight = layer.weight.detach().clone()
        with torch.no_grad():
            layer.weight.zero_()
            assert not torch.equal(sample(model, **options), truth)
            layer.weight.copy_(weight)
    assert torch.equal(sample(model, **options), truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_flips_few_values(dtype):
    """By replay: how often one forward pass of the sample would have drawn another value."""
    model = network("GatedPixelCNN", dtype)
    pictures = sample(model, n=64)
    flips = count_flips(model, pictures, TEMPERATURE)
    print(f"{dtype}: {flips} of {pictures.numel()} values flipped")
    assert flips <= pictures.numel() * (0 if dtype == torch.float32 else 0.02)


def count_flips(model: nn.Module, pictures: Tensor, temperature: float, *low_res: Tensor) -> int:
    """Values of a sample that are not the argmax of its own logits plus noise."""
    n, colours, height, width = pictures.shape
    with torch.inference_mode():
        logits = model(pictures, *low_res)  # [N, L, C, H, W]
    rows = logits.permute(0, 3, 4, 2, 1).flatten(1, 3)  # [N, positions, L]
    noise = gumbel_noise(0, 0, n, 0, rows.shape[1], rows.shape[2], rows.device)
    drawn = draw(rows, noise, temperature).view(n, height, width, colours).permute(0, 3, 1, 2)
    return int((drawn != pictures).sum())


def test_paper_size_model_by_replay():
    torch.manual_seed(0)
    model = pixelsr.PixelRecursiveSR().eval()
    low_res = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
    pictures = pixelsr.sample(model, 1, low_res=low_res)
    flips = count_flips(model, pictures, 1.0, low_res)
    print(f"paper size, float32: {flips} of {pictures.numel()} values flipped")
    assert flips <= 3


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_the_cached_path_equal_the_forward_pass(name):
    model, what = network(name), inputs(network(name), count=2)
    shape = (2, model.colours, 6, 4)
    images = torch.randint(model.levels, shape, dtype=torch.uint8)
    low_res = what.get("low_res")
    cached = sampling.logits(model, images, low_res=low_res)
    expected = model(images, low_res) if low_res is not None else model(images)
    torch.testing.assert_close(cached, expected, rtol=1e-12, atol=1e-12)


def masks(shape: tuple[int, ...]) -> dict[str, Tensor]:
    nothing = torch.zeros(shape, dtype=torch.bool)
    upper, lower, hole, colours = (nothing.clone() for _ in range(4))
    upper[:, :, :3] = True
    lower[:, :, 3:] = True
    hole[:] = True
    hole[:, :, 2:4, 1:3] = False
    colours[:, 0] = True
    rows = nothing.clone()
    rows[:, :, [0, 1, 3]] = True
    generator = torch.Generator().manual_seed(0)
    each_its_own = torch.rand(shape, generator=generator) < 0.7
    everything = ~nothing
    return {
        "upper half": upper,
        "lower half": lower,
        "hole": hole,
        "first colour": colours,
        "rows": rows,
        "each its own": each_its_own,
        "everything": everything,
    }


@pytest.mark.parametrize("mask", masks((1, 1, 6, 4)))
@pytest.mark.parametrize(
    "name", ["GatedPixelCNN", "PixelCNN", "PixelRecursiveSR-gated", "Conditioned", "HintAbove"]
)
def test_known_values_stay_and_both_methods_agree_on_the_rest(name, mask):
    model = network(name)
    shape = sample(model).shape
    known_mask = masks(tuple(shape))[mask]
    known = torch.randint(model.levels, shape, dtype=torch.uint8)
    pictures = sample(model, known=known, known_mask=known_mask)
    assert torch.equal(pictures[known_mask], known[known_mask])
    ancestral = sample(model, known=known, known_mask=known_mask, method="ancestral")
    assert torch.equal(pictures, ancestral)


@pytest.mark.parametrize("name", ["PixelCNN", "PixelRecursiveSR-gated", "Conditioned"])
def test_one_known_picture_serves_all_samples(name):
    model = network(name)
    shape = sample(model).shape
    known = torch.randint(model.levels, (1, *shape[1:]), dtype=torch.uint8)
    known_mask = masks((1, *shape[1:]))["upper half"]
    shared = sample(model, known=known, known_mask=known_mask)
    repeated = sample(
        model, known=known.expand(shape), known_mask=known_mask.expand(shape), method="ancestral"
    )
    assert torch.equal(shared, repeated)


def test_a_sample_with_known_values_uses_the_noise_of_its_own_positions():
    """Given its own values, a picture is completed to itself."""
    model = network("GatedPixelCNN")
    pictures = sample(model)
    for mask in masks(tuple(pictures.shape)).values():
        assert torch.equal(sample(model, known=pictures, known_mask=mask), pictures)


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-pixelcnn"])
def test_a_picture_depends_only_on_its_seed_and_index(name):
    model = network(name)
    pictures = sample(model, n=3)
    assert torch.equal(sample(model, n=3, max_batch=2), pictures)
    assert torch.equal(sample(model, n=3, max_batch=1), pictures)
    assert not torch.equal(sample(model, n=3, seed=1), pictures)
    alone = sample(model, n=1, first_index=2, **first_input(model))
    assert torch.equal(alone[0], pictures[2])


def first_input(model: nn.Module) -> dict[str, object]:
    what = inputs(model, count=2)
    return {"low_res": what["low_res"][:1]} if "low_res" in what else what


def test_samples_of_one_input_stand_side_by_side():
    model = network("PixelRecursiveSR-gated")
    low_res = inputs(model, count=2)["low_res"]
    both = sample(model, n=2)
    second = sample(model, n=2, low_res=low_res[1:], first_index=2)
    assert torch.equal(both[2:], second)


def test_temperature_zero_is_the_mode_at_each_step():
    model = network("PixelCNN")
    pictures = sample(model, temperature=0)
    assert torch.equal(pictures, sample(model, temperature=0, seed=5))
    assert torch.equal(model(pictures).argmax(1).to(torch.uint8), pictures)


@pytest.mark.parametrize("method", ["cached", "ancestral"])
@pytest.mark.parametrize("temperature", [0.5, 0])
def test_progress_moves_by_rows_and_the_mode_makes_no_noise(monkeypatch, method, temperature):
    made, shown = [], []
    monkeypatch.setattr(drawing, "gumbel_noise", lambda *a: made.append(a[3]) or gumbel_noise(*a))
    request = make_request(network("PixelCNN"), 2, (3, 4), None, None, None, 0, "model")
    draws = drawing.Drawing(0, temperature, lambda samples, row: shown.append((samples, row)))
    METHODS[method](request, draws, "reference")
    assert shown == [(2, 0), (2, 1), (2, 2)]
    assert made == ([] if temperature == 0 else [0, 12, 24])  # the first position of each row


def test_a_tie_goes_to_the_lowest_level():
    logits, noise = torch.zeros(2, 8), torch.zeros(2, 8)
    noise[1, [3, 6]] = 1.0
    assert draw(logits, noise, 1.0).tolist() == [0, 3]


def test_a_lower_temperature_is_the_multiplier_tau():
    logits, noise = torch.randn(5, 8), torch.randn(5, 8)
    assert torch.equal(draw(logits, noise, 0.5), (2 * logits + noise).argmax(-1))


@pytest.mark.parametrize("weights", ["float16", "bfloat16"])
def test_rounded_weights_give_the_pictures_of_the_rounded_model(weights):
    model, rounded = network("GatedPixelCNN"), network("GatedPixelCNN")
    rounded.to(getattr(torch, weights)).double()
    assert torch.equal(sample(model, weights=weights), sample(rounded))
    assert torch.equal(sample(model, weights=weights, method="ancestral"), sample(rounded))


# A picture small enough to enumerate: 3x3, one colour, two levels.


def tiny_model() -> nn.Module:
    """Without biases, which would outweigh the past."""
    sizes = {"channels": 6, "layers": 2, "kernel_size": 3, "head_channels": 8}
    model = randomise(GatedPixelCNN(**sizes, colours=1, levels=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return model.double().eval()


def all_pictures() -> Tensor:
    bits = torch.tensor(list(itertools.product((0, 1), repeat=9)), dtype=torch.uint8)
    return bits.view(512, 1, 3, 3)


SHARP = 0.1  # a temperature at which a sampler that ignores the past is found out


def probabilities(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        return (-nats(model(all_pictures()) / SHARP, all_pictures())).exp()


def chi_square_p(counts: Tensor, expected: Tensor) -> float:
    """The p-value of counts against what is expected; bins of under 10 are pooled."""
    small = expected < 10
    counts = torch.cat([counts[~small], counts[small].sum().view(1)])
    expected = torch.cat([expected[~small], expected[small].sum().view(1)])
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


def counts_of(pictures: Tensor) -> Tensor:
    index = (pictures.flatten(1).long() * (2 ** torch.arange(8, -1, -1))).sum(1)
    return torch.bincount(index, minlength=512).double()


def test_probabilities_of_all_pictures_sum_to_one():
    assert probabilities(tiny_model()).sum().item() == pytest.approx(1, abs=1e-12)


def test_sample_frequencies_match_the_probabilities():
    model, n = tiny_model(), 20_000
    pictures = pixelsr.sample(model, n, image_size=(3, 3), temperature=SHARP)
    assert chi_square_p(counts_of(pictures), probabilities(model) * n) > 1e-3


@pytest.mark.parametrize("wrong", ["floor of the expectation", "the past ignored"])
def test_a_wrong_sampler_does_not_match_the_probabilities(wrong):
    model, n = tiny_model(), 5_000
    state = sampling.start(model, n, image_size=(3, 3))
    logits, generator = state.step(), torch.Generator().manual_seed(0)
    while logits is not None:
        p = (logits / SHARP).softmax(-1)
        if wrong == "floor of the expectation":
            values = p[:, 1].floor().long()
        else:
            values = p.mean(0).multinomial(n, replacement=True, generator=generator)
        logits = state.step(values)
    assert chi_square_p(counts_of(state.images), probabilities(model) * n) < 1e-6


# One colour step at a time.


def test_steps_with_the_drawing_of_the_sampler_give_its_pictures():
    model = network("PixelRecursiveSR-gated")
    low_res = inputs(model, count=2)["low_res"]
    state = sampling.start(model, 2, low_res=low_res)
    logits, positions = state.step(), []
    while logits is not None:
        row, col, colour = state.position
        positions.append((row, col, colour))
        noise = gumbel_noise(0, 0, 4, (row * 4 + col) * 3 + colour, 1, 8, logits.device)
        logits = state.step(draw(logits, noise[:, 0], TEMPERATURE))
    assert positions == list(itertools.product(range(6), range(4), range(3)))
    assert torch.equal(state.images, sample(model))
    assert state.position is None


def test_steps_skip_known_values():
    model = network("PixelCNN")
    known_mask = masks((1, 3, 6, 4))["hole"]
    known = torch.ones(1, 3, 6, 4, dtype=torch.uint8)
    state = sampling.start(model, 2, image_size=(6, 4), known=known, known_mask=known_mask)
    steps, logits = 0, state.step()
    while logits is not None:
        steps, logits = steps + 1, state.step(torch.tensor([2, 3]))
    assert steps == 2 * 2 * 3
    assert state.images.unique().tolist() == [1, 2, 3]


@pytest.mark.parametrize("method", ["cached", "ancestral"])
def test_values_that_are_not_given_are_zero_until_they_are_drawn(method):
    model, known_mask = network("PixelCNN"), masks((1, 3, 6, 4))["hole"]
    known = torch.full((1, 3, 6, 4), 5, dtype=torch.uint8).masked_fill(~known_mask, 255)
    given = {"known": known, "known_mask": known_mask}
    images = sampling.start(model, 2, image_size=(6, 4), **given).images
    assert torch.equal(images, torch.where(known_mask, 5, 0).byte().expand(2, -1, -1, -1))
    zeroed = {"known": known * known_mask, "known_mask": known_mask}
    assert torch.equal(sample(model, **given, method=method), sample(model, **zeroed))


def test_steps_refuse_values_that_do_not_fit():
    state = sampling.start(network("PixelCNN"), 2, image_size=(2, 2))
    with pytest.raises(ValueError, match="no values in the first step"):
        state.step(torch.zeros(2, dtype=torch.long))
    state.step()
    with pytest.raises(TypeError, match=r"values must be an int tensor \[2\], got list"):
        state.step([0, 1])
    for values, says in [
        (None, "needs the values of position"),
        (torch.zeros(3, dtype=torch.long), r"must be ints \[2\], got torch.int64 \[3\]"),
        (torch.zeros(2), r"must be ints \[2\], got torch.float32"),
        (torch.tensor([0, 8]), r"0 to 7, got \[0, 8\]"),
        (torch.tensor([-1, 0]), r"0 to 7, got \[-1, 0\]"),
    ]:
        with pytest.raises(ValueError, match=says):
            state.step(values)


# Bad input.

BAD = {
    "n": ({"n": 0}, "n must be a positive int, got 0"),
    "no size": ({"image_size": None}, "PixelCNN needs image_size"),
    "size": ({"image_size": (4, 0)}, r"image_size\[1\] must be a positive int, got 0"),
    "low_res": ({"low_res": torch.zeros(1, 3, 2, 2, dtype=torch.uint8)}, "takes no low_res"),
    "seed": ({"seed": -1}, "seed must be an int from 0 to .*, got -1"),
    "first_index": ({"first_index": -1}, "first_index must be an int .* got -1"),
    "temperature": ({"temperature": -0.5}, "temperature must be 0 or more and finite, got -0.5"),
    "nan": ({"temperature": math.nan}, "temperature must be 0 or more and finite, got nan"),
    "tiny": (
        {"temperature": 1e-31},
        "temperature 1e-31 is too small to divide by, expected at least 1e-30, or 0 for the mode",
    ),
    "huge": ({"temperature": 10**400}, "temperature must be 0 or more and finite, got 1000"),
    "three sizes": (
        {"image_size": (3, 6, 4)},
        r"image_size must be two ints, \(height, width\), got \(3, 6, 4\)",
    ),
    "float size": ({"image_size": 6.0}, r"image_size must be two ints, .* got 6\.0"),
    "float sizes": ({"image_size": (6.0, 4)}, r"image_size\[0\] must be a positive int, got 6\.0"),
    "last index": (
        {"first_index": 2**63 - 2},
        r"first_index \+ samples must be at most 2\^63 - 1, got 9223372036854775806 \+ 2",
    ),
    "method": ({"method": "fast"}, r"method must be one of \['cached', 'ancestral'\], got 'fast'"),
    "engine": ({"engine": "tpu"}, "engine must be auto or one of .*, got 'tpu'"),
    "absent": ({"engine": "cuda"}, "engine 'cuda' cannot run: this version has no CUDA engine"),
    "weights": ({"weights": "int8"}, "weights must be model, float16 or bfloat16, got 'int8'"),
    "max_batch": ({"max_batch": 0}, "max_batch must be a positive int, got 0"),
    "mask alone": ({"known_mask": torch.ones(1, 3, 6, 4).bool()}, "known and known_mask go"),
    "mask dtype": (
        {"known": torch.zeros(1, 3, 6, 4).byte(), "known_mask": torch.ones(1, 3, 6, 4)},
        r"known_mask must be bool \[1, 3, 6, 4\], got torch.float32",
    ),
    "known shape": (
        {"known": torch.zeros(1, 3, 6, 5).byte(), "known_mask": torch.ones(1, 3, 6, 5).bool()},
        r"known must be uint8 \[N, 3, 6, 4\], got torch.uint8 \[1, 3, 6, 5\]",
    ),
    "known dtype": (
        {"known": torch.zeros(1, 3, 6, 4), "known_mask": torch.ones(1, 3, 6, 4).bool()},
        r"known must be uint8 .*, got torch.float32",
    ),
    "known count": (
        {"known": torch.zeros(3, 3, 6, 4).byte(), "known_mask": torch.ones(3, 3, 6, 4).bool()},
        "known must hold 1 or 2 pictures, got 3",
    ),
    "known level": (
        {"known": torch.full((1, 3, 6, 4), 9).byte(), "known_mask": torch.ones(1, 3, 6, 4).bool()},
        "known holds the value 9; the model has 8 levels",
    ),
    "given level": (
        {
            "known": torch.tensor([8, 9]).byte().repeat(1, 3, 6, 2),
            "known_mask": torch.tensor([True, False]).repeat(1, 3, 6, 2),
        },
        "known holds the value 8; the model has 8 levels",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_sentence(case):
    options, says = BAD[case]
    arguments = {"n": 2, "image_size": (6, 4), **options}
    with pytest.raises(ValueError, match=says) as raised:
        pixelsr.sample(network("PixelCNN"), **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("temperature", ["1", None, True, 1j, torch.ones(())], ids=repr)
def test_a_temperature_that_is_no_number_is_refused(temperature):
    with pytest.raises(TypeError, match="temperature must be a real number, got"):
        sample(network("PixelCNN"), temperature=temperature)


def test_a_mask_that_is_no_tensor_is_refused():
    known = torch.zeros(1, 3, 6, 4, dtype=torch.uint8)
    with pytest.raises(TypeError, match="known_mask must be a bool tensor, got list"):
        sample(network("PixelCNN"), known=known, known_mask=known.bool().tolist())


@pytest.mark.parametrize(
    ("low_res", "says"),
    [
        (None, "PixelRecursiveSR needs low_res"),
        (torch.zeros(1, 3, 2, 2), r"low_res must be uint8 \[N, 3, h, w\], got torch.float32"),
        (torch.zeros(3, 2, 2).byte(), r"low_res must be uint8 \[N, 3, h, w\], got .* \[3, 2, 2\]"),
        (torch.zeros(0, 3, 2, 2).byte(), r"low_res must be uint8 .* got .* \[0, 3, 2, 2\]"),
        (torch.zeros(1, 1, 2, 2).byte(), r"low_res must be uint8 .* got .* \[1, 1, 2, 2\]"),
    ],
)
def test_bad_low_res_gets_one_clear_sentence(low_res, says):
    with pytest.raises(ValueError, match=says):
        pixelsr.sample(network("PixelRecursiveSR-gated"), low_res=low_res)


def test_a_size_that_low_res_contradicts_is_refused():
    model = network("PixelRecursiveSR-gated")
    with pytest.raises(ValueError, match=r"image_size is \(6, 6\), but low_res magnified is"):
        sample(model, image_size=(6, 6))


@pytest.mark.parametrize("method", ["cached", "ancestral"])
def test_nan_weights_are_refused_by_name(method):
    model = network("PixelCNN")
    with torch.no_grad():
        model.head.out.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"NaN or infinity, in head\.out\.weight"):
        sample(model, method=method)


@pytest.mark.parametrize(
    ("weights", "value", "most"), [("float16", 1e6, "65504"), ("bfloat16", 1e300, "3.3895e\\+38")]
)
def test_weights_that_are_too_large_for_16_bits_are_refused_by_name(weights, value, most):
    model = network("PixelCNN")
    with torch.no_grad():
        model.head.out.weight[0, 0] = value
    says = rf"head\.out\.weight does not fit weights='{weights}': .* beyond {most}"
    with pytest.raises(ValueError, match=says):
        sample(model, weights=weights)


def test_a_nan_in_a_buffer_is_refused_and_an_infinity_is_not():
    model = network("PixelCNN")
    model.register_buffer("count", torch.tensor(3))
    model.register_buffer("shift", torch.tensor([0, -math.inf]))
    expected = sample(network("PixelCNN"))
    assert torch.equal(sample(model), expected)
    model.shift[0] = math.nan
    with pytest.raises(ValueError, match="the buffer shift holds NaN"):
        sample(model)


def test_a_model_without_parameters_is_refused():
    class Constant(Network):
        def forward(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images), 8, *images.shape[1:])

    with pytest.raises(ValueError, match="Constant has no parameters"):
        pixelsr.sample(Constant(), image_size=(2, 2))


def test_something_else_than_a_model_is_refused():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        pixelsr.sample("faces-8x32")
    images = torch.zeros(1, 3, 6, 4, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        sampling.logits("faces-8x32", images)


def test_logits_refuse_images_that_do_not_fit():
    model = network("PixelRecursiveSR-gated")
    images = torch.zeros(2, 3, 6, 4, dtype=torch.uint8)
    low_res = torch.zeros(1, 3, 3, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="low_res must hold 2 pictures, got 1"):
        sampling.logits(model, images, low_res=low_res)
    with pytest.raises(ValueError, match="images must be uint8"):
        sampling.logits(model, images.float(), low_res=low_res)
    with pytest.raises(ValueError, match=r"uint8 \[N, 3, h, w\], got torch.uint8 \[2, 1, 6, 4\]"):
        sampling.logits(model, images[:, :1], low_res=low_res)
    with pytest.raises(ValueError, match=r"image_size is \(5, 4\), but low_res magnified is"):
        sampling.logits(model, images[:, :, :5], low_res=low_res)
    with pytest.raises(TypeError, match="images must be a uint8 tensor, got ndarray"):
        sampling.logits(model, images.numpy(), low_res=low_res)
