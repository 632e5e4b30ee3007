"""Tests of the ancestral method, which every engine is compared with, and of what methods share."""

import pytest
import torch
from torch import nn

import pixelsr
from pixelsr.sampling import sampler
from pixelsr.sampling.methods import start_engine
from pixelsr.sampling.noise import draw, gumbel_noise
from tests.support.networks import network
from tests.support.sampling import (
    MASKS,
    Draw,
    ancestral,
    count_flips,
    forward,
    request_of,
    sample,
)


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


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated", "RowLSTM"])
def test_the_ancestral_method_draws_from_its_own_logits(name):
    """Check each value by the definition, from one forward pass of the drawn images."""
    images = ancestral(Draw(name, n=1))
    low_res = [value for key, value in Draw(name).what().items() if key == "low_res"]
    assert count_flips(network(name), images, 0.5, *low_res) == 0
    mode = ancestral(Draw("PixelCNN", temperature=0))
    assert torch.equal(forward(network("PixelCNN"), mode).argmax(1), mode.long())


@pytest.mark.parametrize("mask", MASKS)
def test_the_ancestral_method_completes_an_image_to_itself(mask):
    """Check that a sample with known values uses the noise of its own positions."""
    images = ancestral(Draw("GatedPixelCNN"))
    assert torch.equal(ancestral(Draw("GatedPixelCNN", mask=mask, given="drawn")), images)
    other = Draw("GatedPixelCNN", mask=mask)
    known, where = (other.what()[name] for name in ("known", "known_mask"))
    assert torch.equal(ancestral(other)[where], known[where])


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-pixelcnn"])
def test_ancestral_images_depend_only_on_their_seed_and_index(name):
    model, how = network(name), {"method": "ancestral"}
    images = ancestral(Draw(name, n=3))
    for max_batch in (1, 2):
        assert torch.equal(sample(model, n=3, max_batch=max_batch, **how), images)
    assert not torch.equal(sample(model, n=3, seed=1, **how), images)
    what = Draw(name).what()
    last = {"low_res": what["low_res"][1:]} if "low_res" in what else {}
    alone = sample(model, n=1, first_index=len(images) - 1, **how, **last)
    assert torch.equal(alone[0], images[-1])


@pytest.mark.parametrize("weights", ["float16", "bfloat16"])
def test_the_ancestral_method_rounds_weights_too(weights):
    rounded = network("GatedPixelCNN").to(getattr(torch, weights)).double()
    drawn = sample(network("GatedPixelCNN"), weights=weights, method="ancestral")
    assert torch.equal(drawn, sample(rounded, method="ancestral"))


def test_paper_size_model_by_replay():
    torch.manual_seed(0)
    model = pixelsr.PixelRecursiveSR().eval()
    low_res = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
    images = pixelsr.sample(model, 1, low_res=low_res)
    flips = count_flips(model, images, 1.0, low_res)
    print(f"paper size, float32: {flips} of {images.numel()} values flipped")
    assert flips <= 3


@pytest.mark.parametrize("method", ["cached", "ancestral"])
@pytest.mark.parametrize("temperature", [0.5, 0])
@torch.no_grad()
def test_progress_moves_by_rows_and_the_mode_makes_no_noise(monkeypatch, method, temperature):
    made, shown = [], []
    monkeypatch.setattr(sampler, "gumbel_noise", lambda *a: made.append(a[3]) or gumbel_noise(*a))
    request = request_of(network("PixelCNN"), 2, (3, 4))
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
