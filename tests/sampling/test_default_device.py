"""Tests that PyTorch's default device and dtype change nothing: tensors follow model and data."""

import contextlib
import copy

import pytest
import torch

import pixelsr
from pixelsr.data.binarize import binarize
from pixelsr.evaluation import evaluate
from pixelsr.training import Budget, Intervals, RunDir, Trainer
from pixelsr.training.progress import Display
from tests.support.networks import inputs, network
from tests.support.training_cases import CONFIG, random_images, small_model

DTYPES = [torch.float64, torch.float16, torch.bfloat16]


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS = [
    pytest.param(lambda: torch.device("meta"), id="meta"),
    *(pytest.param(lambda dtype=dtype: default_dtype(dtype), id=str(dtype)) for dtype in DTYPES),
]


FEW = [
    *DEFAULTS[:2],
    *(pytest.param(*rest.values, id=rest.id, marks=pytest.mark.slow) for rest in DEFAULTS[2:]),
]
"""The defaults, of which the others hardly differ from the first two."""


@pytest.mark.parametrize("default", DEFAULTS)
@pytest.mark.parametrize(
    "name",
    [pytest.param("GatedPixelCNN", marks=pytest.mark.slow), "PixelRecursiveSR-pixelcnn"],
)
@pytest.mark.parametrize(
    "how", [{"engine": "cpu", "weights": "bfloat16"}, {"method": "ancestral"}], ids=str
)
def test_samples_are_the_same(name, how, default):
    model = network(name, torch.float32)
    known = torch.zeros(1, 3, 6, 4, dtype=torch.uint8)
    mask = torch.zeros(1, 3, 6, 4, dtype=torch.bool)
    mask[:, :, :2] = mask[:, 1, 3, 2] = True
    what = {"known": known, "known_mask": mask, **inputs(model)}
    expected = pixelsr.sample(model, 2, **what, **how)
    with default():
        again = pixelsr.sample(copy.deepcopy(model), 2, **what, **how)
    assert torch.equal(again, expected)


@pytest.mark.parametrize("default", DEFAULTS)
def test_logits_edits_and_steps_are_the_same(default):
    model = network("Conditioned", torch.float32)
    given = inputs(model)
    images = torch.randint(8, (1, 3, 6, 4), dtype=torch.uint8)
    mask = torch.zeros(1, 3, 6, 4, dtype=torch.bool)
    mask[:, :, 2, 1] = True

    def run(model) -> list[torch.Tensor]:
        logits = pixelsr.sampling.logits(model, images, **given)
        edited = pixelsr.sampling.incremental_logits(model, images, **given)
        edited.edit(images.flip(3), mask)
        state = pixelsr.sampling.start(model, 2, **given)
        step = state.step()
        return [logits, edited.logits, step, state.step(step.argmax(-1))]

    expected = run(model)
    with default():
        again = run(copy.deepcopy(model))
    assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))


@pytest.mark.parametrize("default", FEW)
def test_checks_of_a_network_are_the_same(default):
    model = network("PixelCNN", torch.float32)
    expected = str(pixelsr.check_causality(model)), pixelsr.receptive_field(model, (5, 5))
    with default():
        assert str(pixelsr.check_causality(model)) == expected[0]
        assert torch.equal(pixelsr.receptive_field(model, (5, 5)), expected[1])


@pytest.mark.parametrize("default", FEW)
def test_a_model_is_loaded_and_measured_the_same(default, tmp_path):
    small_model(4).save_pretrained(tmp_path)
    images = random_images(4)

    def run() -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        model = pixelsr.PixelRecursiveSR.from_pretrained(str(tmp_path)).eval()
        assert {p.device.type for p in model.parameters()} == {"cpu"}
        return model.state_dict(), evaluate(model, images, seed=0).bits_per_dimension

    weights, bits = run()
    with default():
        again, more_bits = run()
    assert more_bits == bits
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert {value.dtype for value in again.values()} == {torch.float32}


@pytest.mark.parametrize("default", DEFAULTS)
def test_training_takes_the_same_steps(default, tmp_path):
    images, held_out = random_images(10), random_images(4, 1)
    intervals = Intervals(log=2, validate=2, checkpoint=2)

    def run(out, model) -> dict[str, torch.Tensor]:
        budget, files = Budget(steps=3), RunDir(tmp_path / out)
        trainer = Trainer(model, images, held_out, files, CONFIG, budget, intervals, Display())
        trainer.run()
        return trainer.state.model.state_dict()

    model = small_model(4)
    expected = run("before", copy.deepcopy(model))
    with default():
        again = run("after", copy.deepcopy(model))
    assert all(torch.equal(again[name], value) for name, value in expected.items())


@pytest.mark.parametrize("default", DEFAULTS)
def test_gray_images_are_binarized_the_same(default):
    images = random_images(3)
    expected = binarize(images)
    with default():
        assert torch.equal(binarize(images), expected)
