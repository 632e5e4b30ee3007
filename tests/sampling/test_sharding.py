"""Tests that several workers draw the images of one, and only the first prints and writes."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import pixelsr
from pixelsr import ops
from pixelsr.cli import main
from pixelsr.cli.distributed import find_device
from pixelsr.sampling.api import sample_distributed
from pixelsr.utils.distributed import Workers
from tests.support.command_cases import save_photo, written
from tests.support.helpers import randomize, slow
from tests.support.networks import network


def torchrun(count: int, *arguments: object) -> subprocess.CompletedProcess:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
    command = [sys.executable, *launcher, "-m", "pixelsr.cli", *arguments]
    return subprocess.run(
        [str(argument) for argument in command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def alone(*arguments: object) -> None:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def enlarger(folder: Path) -> Path:
    prior = pixelsr.GatedPixelCNN(channels=4, layers=1, head_channels=8)
    conditioning = pixelsr.ConditioningNetwork(channels=4, blocks=1, scale_factor=2)
    # The model is float64, so the batch size cannot flip a draw.
    randomize(pixelsr.PixelRecursiveSR(prior, conditioning)).double().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("count", [slow(1), 2, slow(3)])
def test_workers_enlarge_as_one_process_does(tmp_path, count):
    photos = [save_photo(tmp_path / f"{k}.png", seed=k) for k in range(3)]
    command = ["enlarge", *photos, "--model", enlarger(tmp_path / "model"), "--samples", 4]
    alone(*command, "-o", tmp_path / "alone")
    result = torchrun(count, *command, "-o", tmp_path / "shared")  # 2 and 3 workers split a photo
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert written(tmp_path / "shared") == written(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.skipif(ops.WHY_NOT_COMPILED is not None, reason=str(ops.WHY_NOT_COMPILED))
@pytest.mark.parametrize("count", [slow(1), 2, slow(3)])
def test_workers_sample_as_one_process_does_in_float32(tmp_path, count):
    prior = randomize(pixelsr.GatedPixelCNN(channels=12, layers=2, head_channels=24))
    prior.save_pretrained(tmp_path / "prior")
    command = ["sample", "--model", tmp_path / "prior", "--size", 7, "-n", 5, "--engine", "cpu"]
    alone(*command, "-o", tmp_path / "alone")
    result = torchrun(count, *command, "-o", tmp_path / "shared")
    assert result.returncode == 0, result.stderr
    assert written(tmp_path / "shared") == written(tmp_path / "alone")


@pytest.mark.slow
def test_two_workers_complete_as_one_does_and_name_a_bad_file_once(tmp_path):
    photos = [save_photo(tmp_path / "photos" / f"{k}.png", seed=k) for k in range(3)]
    (photos[0].parent / "words.txt").write_text("no image")
    model = enlarger(tmp_path / "model")
    command = ["complete", photos[0].parent, "--model", model, "--samples", 1]
    alone(*command, "-o", tmp_path / "one")
    result = torchrun(2, *command, "-o", tmp_path / "two")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("skipped") == 1
    assert written(tmp_path / "two") == written(tmp_path / "one")


@pytest.mark.slow
def test_a_worker_without_a_sample_draws_none(tmp_path):
    prior = randomize(pixelsr.PixelCNN(channels=4, layers=1, head_channels=8)).double()
    prior.save_pretrained(tmp_path / "prior")
    command = ["sample", "--model", tmp_path / "prior", "--size", 4, "-n", 2]
    alone(*command, "-o", tmp_path / "one")
    result = torchrun(3, *command, "-o", tmp_path / "three")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert written(tmp_path / "three") == written(tmp_path / "one")


def test_the_first_worker_alone_speaks_of_an_error(tmp_path):
    photo, model = tmp_path / "nowhere.png", enlarger(tmp_path / "model")
    result = torchrun(2, "enlarge", photo, "-o", tmp_path / "out", "--model", model)
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert said == [f"Error: no such image: {photo}"]
    assert not (tmp_path / "out").exists()


# --- the core, without processes ---


class Team(Workers):
    """One of several workers, which gathers only its own value."""

    def gather(self, value: torch.Tensor) -> list[torch.Tensor]:
        return [value]


@pytest.mark.parametrize(("rank", "says"), [(0, "temperature 1e-31 is too small"), (1, "")])
def test_an_error_of_every_worker_is_spoken_by_the_first(tmp_path, monkeypatch, rank, says):
    @contextlib.contextmanager
    def workers(device):
        yield Team(rank, 2)

    monkeypatch.setattr("pixelsr.cli.distributed.workers", workers)
    monkeypatch.setattr("pixelsr.cli.sample.on_main_process", lambda team, work: work())
    randomize(pixelsr.PixelCNN(channels=4, layers=1)).save_pretrained(tmp_path / "prior")
    options = ["--model", tmp_path / "prior", "--size", 4, "--temperature", 1e-31]
    result = CliRunner().invoke(main, ["sample", "-o", tmp_path / "out", *map(str, options)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {says}" if says else "")
    assert bool(result.output) == bool(says)


def test_more_workers_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"worker 3 needs a GPU .* which has 2"):
        find_device("auto")
    assert find_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_device("auto") == torch.device("cuda", 1)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("max_batch", [None, 2])
def test_the_shares_of_all_workers_are_the_samples_in_order(count, max_batch):
    model = network("PixelRecursiveSR-gated").double()
    low_res = torch.randint(8, (2, 3, 3, 2), dtype=torch.uint8)
    known = torch.randint(8, (6, 3, 6, 4), dtype=torch.uint8)
    options = {
        "n": 3,
        "low_res": low_res,
        "known": known,
        "known_mask": known > 5,
        "seed": 7,
        "first_index": 10,
        "temperature": 0.5,
        "max_batch": max_batch,
    }
    expected = pixelsr.sample(model, **options)
    shares = [sample_distributed(Team(rank, count), model, **options) for rank in range(count)]
    assert torch.equal(torch.cat(shares), expected)
    assert {len(share) for share in shares} <= {6 // count, -(-6 // count)}


def test_a_worker_without_a_sample_checks_what_it_is_asked_all_the_same():
    model = network("PixelCNN")
    with pytest.raises(ValueError, match="temperature must be 0 or more"):
        sample_distributed(Team(0, 3), model, 2, image_size=(6, 4), temperature=-1.0)
