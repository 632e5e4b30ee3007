"""Tests that impossible sizes are refused by one sentence before memory is allocated."""

import sys

import pytest
from click.testing import CliRunner

import pixelsr
from pixelsr.cli import main
from pixelsr.utils import system
from tests.support.networks import network
from tests.support.processes import run, script


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(system, "available_memory", lambda: 2**20)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("method", ["cached", "ancestral"])
@pytest.mark.parametrize("size", [(4096, 4096), (2**20, 2**20)], ids=str)
def test_a_large_image_is_refused_before_it_is_allocated(method, size):
    says = r"need .* GiB of memory, and 0.000977 GiB are free; draw smaller or fewer images"
    with pytest.raises(ValueError, match=says):
        pixelsr.sample(network("PixelCNN"), image_size=size, method=method)


PEAK = """
import resource, torch, pixelsr
from pixelsr.sampling.plan import Schedule
from tests.support.networks import network
plan = pixelsr.sampling.plan(network("PixelCNN"), (8, 8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Schedule(plan, torch.ones(3, 2048, 2048, dtype=torch.bool))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_the_order_of_a_large_image_is_not_held_in_lists():
    done = run(script, PEAK)
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss, in bytes
    assert int(done.stdout) * unit < 120 * 2048**2


def test_training_a_model_that_does_not_fit_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("pixelsr.cli.train_model.available_memory", lambda: 2**30)
    out, images = tmp_path / "run", tmp_path / "images"
    images.mkdir()
    arguments = ["train", str(images), "-o", str(out), "--channels", "65536", "--steps", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert "training a model of" in result.output
    assert "GiB are free; choose fewer channels or layers" in result.output
    assert not out.exists()
