"""The fixed binarisation: each pixel is drawn once, the same on every machine."""

import pytest
import torch

from pixelsr.data import binarised
from pixelsr.data.binarised import binarise
from pixelsr.data.levels import to_levels


def ramp(n):
    """Pictures of 16x16 that hold each intensity once."""
    return torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(n, 1, 1, 1)


def test_frequencies_are_the_intensities():
    n = 4000
    frequency = (binarise(ramp(n)) == 255).double().mean(0).flatten()
    probability = torch.arange(256) / 255
    error = (probability * (1 - probability) / n).sqrt()
    assert ((frequency - probability).abs() <= 4.5 * error).all()


def test_black_stays_black_and_white_stays_white():
    drawn = binarise(ramp(50)).flatten(1)
    assert set(drawn.unique().tolist()) == {0, 255}
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, -1] == 255).all()


def test_the_values_are_these_on_every_machine():
    grey = torch.full((1, 1, 4, 8), 128, dtype=torch.uint8)
    expected = "00111111001101100010101000111010"
    assert "".join(map(str, to_levels(binarise(grey, seed=7), 2).flatten().tolist())) == expected


def test_a_picture_depends_on_its_index_and_the_seed_alone(monkeypatch):
    images = torch.randint(256, (30, 1, 5, 7), dtype=torch.uint8)
    whole = binarise(images, seed=3)
    assert torch.equal(binarise(images, seed=3), whole)
    assert torch.equal(binarise(images[11:], seed=3, first_index=11), whole[11:])
    assert not torch.equal(binarise(images, seed=4), whole)
    monkeypatch.setattr(binarised, "_CHUNK", 7)
    assert torch.equal(binarise(images, seed=3), whole)


def test_no_picture_is_no_picture():
    assert binarise(torch.zeros(0, 1, 4, 4, dtype=torch.uint8)).shape == (0, 1, 4, 4)


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
def test_what_cannot_be_binarised_is_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        binarise(images, **options)
