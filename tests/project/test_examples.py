"""Tests that the examples run unchanged, at small sizes."""

import importlib.util
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import pixelsr
from pixelsr.data.crop import from_tensor
from tests.support.training_cases import random_images

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _classes_as_they_were(monkeypatch):
    """Restore the model classes, because another test may run an example that defines one again."""
    monkeypatch.setattr("pixelsr.models.base._classes", dict(pixelsr.models.base._classes))


def run(name, *arguments):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = CliRunner().invoke(module.main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_network_of_ones_own_is_trained_and_sampled(tmp_path):
    for k, image in enumerate(random_images(4)):
        from_tensor(image).save(tmp_path / f"{k}.png")
    text = run("own_network", tmp_path, "-o", tmp_path / "run", "--steps", 2, "--size", 8)
    assert "million multiply-adds draw a 8x8 image" in text
    with Image.open(tmp_path / "run" / "drawn.png") as drawn:
        assert drawn.size == (32, 8)


def test_a_sampling_rule_of_ones_own_enlarges(tmp_path):
    torch.manual_seed(0)
    pixelsr.PixelRecursiveSR(
        pixelsr.GatedPixelCNN(channels=4, layers=1, head_channels=8),
        pixelsr.ConditioningNetwork(channels=4, blocks=1, scale_factor=2),
    ).save_pretrained(tmp_path / "model")
    run("own_sampling", "--model", tmp_path / "model", "-o", tmp_path / "a.png", "-n", 2, "-k", 1)
    with Image.open(tmp_path / "a.png") as drawn:
        first, second = drawn.crop((0, 0, 16, 16)), drawn.crop((16, 0, 32, 16))
    assert first.tobytes() == second.tobytes()  # with k = 1 there is no choice
