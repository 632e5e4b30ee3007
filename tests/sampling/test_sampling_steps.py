"""Tests of drawing one color step at a time, where the caller chooses the values."""

import itertools

import pytest
import torch

from pixelsr import sampling
from pixelsr.sampling.noise import draw, gumbel_noise
from tests.support.networks import inputs, network
from tests.support.sampling import TEMPERATURE, masks, sample


def test_steps_with_the_drawing_of_the_sampler_give_its_images():
    model = network("PixelRecursiveSR-gated")
    low_res = inputs(model, count=2)["low_res"]
    state = sampling.start(model, 2, low_res=low_res)
    logits, positions = state.step(), []
    while logits is not None:
        row, col, color = state.position
        positions.append((row, col, color))
        noise = gumbel_noise(0, 0, 4, (row * 4 + col) * 3 + color, 1, 8, logits.device)
        logits = state.step(draw(logits, noise[:, 0], TEMPERATURE))
    assert positions == list(itertools.product(range(6), range(4), range(3)))
    assert torch.equal(state.images, sample(model))
    assert state.position is None


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_steps_begun_in_inference_mode_go_on_outside_of_it(engine):
    model = network("PixelCNN")
    with torch.inference_mode():
        state = sampling.start(model, 2, image_size=(3, 2), engine=engine)
        logits = state.step()
    while logits is not None:
        logits = state.step(logits.argmax(-1))
    assert torch.equal(state.images, sample(model, n=2, image_size=(3, 2), temperature=0))


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
