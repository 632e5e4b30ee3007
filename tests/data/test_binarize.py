"""Tests of the fixed binarization: each pixel is drawn once, identically on every machine."""

import pytest
import torch

from pixelsr.data import binarize as binarizing
from pixelsr.data.binarize import binarize, binarized, describe_levels
from pixelsr.data.quantize import to_levels


def ramp(n):
    """Return images of 16x16 that hold each intensity once."""
    return torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(n, 1, 1, 1)


def test_frequencies_are_the_intensities():
    n = 4000
    frequency = (binarize(ramp(n)) == 255).double().mean(0).flatten()
    probability = torch.arange(256) / 255
    error = (probability * (1 - probability) / n).sqrt()
    assert ((frequency - probability).abs() <= 4.5 * error).all()


def test_black_stays_black_and_white_stays_white():
    drawn = binarize(ramp(50)).flatten(1)
    assert set(drawn.unique().tolist()) == {0, 255}
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, -1] == 255).all()


def test_the_values_are_these_on_every_machine():
    gray = torch.full((1, 1, 4, 8), 128, dtype=torch.uint8)
    expected = "00111111001101100010101000111010"
    assert "".join(map(str, to_levels(binarize(gray, seed=7), 2).flatten().tolist())) == expected


def test_an_image_depends_on_its_index_and_the_seed_alone(monkeypatch):
    images = torch.randint(256, (30, 1, 5, 7), dtype=torch.uint8)
    whole = binarize(images, seed=3)
    assert torch.equal(binarize(images, seed=3), whole)
    assert torch.equal(binarize(images[11:], seed=3, first_index=11), whole[11:])
    assert not torch.equal(binarize(images, seed=4), whole)
    monkeypatch.setattr(binarizing, "_CHUNK", 7)
    assert torch.equal(binarize(images, seed=3), whole)


def test_a_choice_by_name_is_what_to_levels_makes_of_it():
    gray = ramp(3)
    thresholded = to_levels(binarized(gray, 2, "threshold"), 2)
    assert torch.equal(thresholded, (gray >= 128).to(torch.uint8))
    assert torch.equal(binarized(gray, 2, "bernoulli"), binarize(gray, 0))


@pytest.mark.parametrize("choice", [None, "threshold", "bernoulli"])
def test_black_and_white_stays_as_it_is(choice):
    images = binarize(ramp(300))
    assert binarized(images, 2, choice) is images


@pytest.mark.parametrize("place", [0, 299])
def test_a_single_gray_value_needs_a_choice(place):
    images = binarize(ramp(300))
    images[place, 0, 3, 4] = 254
    with pytest.raises(ValueError, match=r"\(--binarize\) to threshold .* or to bernoulli"):
        binarized(images, 2, None)


@pytest.mark.parametrize("levels", [3, 256])
def test_other_levels_have_no_choice(levels):
    assert binarized(ramp(1), levels, None).unique().numel() == 256
    with pytest.raises(ValueError, match=f"models of 2 levels, and this one has {levels}"):
        binarized(ramp(1), levels, "threshold")


def test_levels_are_described_where_bits_depend_on_them():
    descriptions = [describe_levels(levels, None) for levels in (256, 255, 3, 2)]
    assert descriptions == [
        None,
        "quantized to 255 levels",
        "quantized to 3 levels",
        "black and white",
    ]
    assert describe_levels(2, "bernoulli") == "binarized by bernoulli"


def test_no_image_is_no_image():
    assert binarize(torch.zeros(0, 1, 4, 4, dtype=torch.uint8)).shape == (0, 1, 4, 4)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (torch.zeros(1, 1, 2, 2), {}, r"uint8 \[N, C, H, W\], got torch.float32 \[1, 1, 2, 2\]"),
        (torch.zeros(2, 2, dtype=torch.uint8), {}, r"got torch.uint8 \[2, 2\]"),
        (ramp(1), {"seed": 2**64}, "seed must be an int from 0 to 2\\^64 - 1"),
        (ramp(1), {"first_index": -1}, "first_index must be an int from 0"),
    ],
    ids=["dtype", "shape", "seed", "index"],
)
def test_what_cannot_be_binarized_is_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        binarize(images, **options)
