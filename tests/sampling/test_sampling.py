"""Tests of sampling: every method draws the same images, from the right distribution."""

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import sampling
from pixelsr.sampling import sampler
from pixelsr.sampling.methods import start_engine
from pixelsr.sampling.noise import draw, gumbel_noise
from pixelsr.sampling.request import make_request
from tests.support.networks import NETWORKS, inputs, network

TEMPERATURE = 0.5  # the past matters: see `tests.support.helpers.randomize`


def sample(model: nn.Module, n: int = 2, **options) -> Tensor:
    return pixelsr.sample(
        model, n, **{"temperature": TEMPERATURE, **inputs(model, count=2), **options}
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_cached_and_ancestral_draw_equal_images_in_float64(name):
    model = network(name)
    assert torch.equal(sample(model), sample(model, method="ancestral"))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 7)])
def test_odd_sizes_are_equal_too(size):
    model = network("GatedPixelCNN")
    images = sample(model, image_size=size)
    assert images.shape == (2, 3, *size)
    assert torch.equal(images, sample(model, image_size=size, method="ancestral"))


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelCNN"])
def test_a_layer_zeroed_in_one_method_changes_its_images(name):
    """Check that the comparison above detects a sampler that lost any one layer."""
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
    """Count the values that one forward pass of the sample would draw differently."""
    model = network("GatedPixelCNN", dtype)
    images = sample(model, n=64)
    flips = count_flips(model, images, TEMPERATURE)
    print(f"{dtype}: {flips} of {images.numel()} values flipped")
    assert flips <= images.numel() * (0 if dtype == torch.float32 else 0.02)


def count_flips(model: nn.Module, images: Tensor, temperature: float, *low_res: Tensor) -> int:
    """Return the number of values that are not the argmax of their own logits plus noise."""
    n, colors, height, width = images.shape
    with torch.inference_mode():
        logits = model(images, *low_res)  # [N, L, C, H, W]
    rows = logits.permute(0, 3, 4, 2, 1).flatten(1, 3)  # [N, positions, L]
    noise = gumbel_noise(0, 0, n, 0, rows.shape[1], rows.shape[2], rows.device)
    drawn = draw(rows, noise, temperature).view(n, height, width, colors).permute(0, 3, 1, 2)
    return int((drawn != images).sum())


def test_paper_size_model_by_replay():
    torch.manual_seed(0)
    model = pixelsr.PixelRecursiveSR().eval()
    low_res = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
    images = pixelsr.sample(model, 1, low_res=low_res)
    flips = count_flips(model, images, 1.0, low_res)
    print(f"paper size, float32: {flips} of {images.numel()} values flipped")
    assert flips <= 3


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_the_cached_path_equal_the_forward_pass(name):
    model, what = network(name), inputs(network(name), count=2)
    shape = (2, model.colors, 6, 4)
    images = torch.randint(model.levels, shape, dtype=torch.uint8)
    low_res = what.get("low_res")
    cached = sampling.logits(model, images, low_res=low_res)
    expected = model(images, low_res) if low_res is not None else model(images)
    torch.testing.assert_close(cached, expected, rtol=1e-12, atol=1e-12)


def masks(shape: tuple[int, ...]) -> dict[str, Tensor]:
    nothing = torch.zeros(shape, dtype=torch.bool)
    upper, lower, hole, colors = (nothing.clone() for _ in range(4))
    upper[:, :, :3] = True
    lower[:, :, 3:] = True
    hole[:] = True
    hole[:, :, 2:4, 1:3] = False
    colors[:, 0] = True
    rows = nothing.clone()
    rows[:, :, [0, 1, 3]] = True
    generator = torch.Generator().manual_seed(0)
    each_its_own = torch.rand(shape, generator=generator) < 0.7
    everything = ~nothing
    return {
        "upper half": upper,
        "lower half": lower,
        "hole": hole,
        "first color": colors,
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
    images = sample(model, known=known, known_mask=known_mask)
    assert torch.equal(images[known_mask], known[known_mask])
    ancestral = sample(model, known=known, known_mask=known_mask, method="ancestral")
    assert torch.equal(images, ancestral)


@pytest.mark.parametrize("name", ["PixelCNN", "PixelRecursiveSR-gated", "Conditioned"])
def test_one_known_image_serves_all_samples(name):
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
    """Check that an image is completed to itself, given its own values."""
    model = network("GatedPixelCNN")
    images = sample(model)
    for mask in masks(tuple(images.shape)).values():
        assert torch.equal(sample(model, known=images, known_mask=mask), images)


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-pixelcnn"])
def test_an_image_depends_only_on_its_seed_and_index(name):
    model = network(name)
    images = sample(model, n=3)
    assert torch.equal(sample(model, n=3, max_batch=2), images)
    assert torch.equal(sample(model, n=3, max_batch=1), images)
    assert not torch.equal(sample(model, n=3, seed=1), images)
    alone = sample(model, n=1, first_index=2, **first_input(model))
    assert torch.equal(alone[0], images[2])


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
    images = sample(model, temperature=0)
    assert torch.equal(images, sample(model, temperature=0, seed=5))
    assert torch.equal(model(images).argmax(1).to(torch.uint8), images)


@pytest.mark.parametrize("method", ["cached", "ancestral"])
@pytest.mark.parametrize("temperature", [0.5, 0])
@torch.no_grad()
def test_progress_moves_by_rows_and_the_mode_makes_no_noise(monkeypatch, method, temperature):
    made, shown = [], []
    monkeypatch.setattr(sampler, "gumbel_noise", lambda *a: made.append(a[3]) or gumbel_noise(*a))
    request = make_request(network("PixelCNN"), 2, image_size=(3, 4))
    draws = sampler.Sampler(0, temperature, lambda samples, row: shown.append((samples, row)))
    start_engine("reference", request, method).draw(draws)
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
def test_rounded_weights_give_the_images_of_the_rounded_model(weights):
    model, rounded = network("GatedPixelCNN"), network("GatedPixelCNN")
    rounded.to(getattr(torch, weights)).double()
    assert torch.equal(sample(model, weights=weights), sample(rounded))
    assert torch.equal(sample(model, weights=weights, method="ancestral"), sample(rounded))
