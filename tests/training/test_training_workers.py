"""Tests of training under `torchrun`: several processes equal one with larger batches."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pixelsr.data.crop import from_tensor
from pixelsr.training.checkpoint import read_checkpoint
from pixelsr.utils.distributed import Workers
from tests.support.advance_state import advance
from tests.support.command_cases import TINY
from tests.support.helpers import slow
from tests.support.training_cases import random_images

ROOT = Path(__file__).parents[2]
TORCHRUN = ("--standalone", "--nproc-per-node")


LIMIT = """
import resource, signal
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
"""
MAIN = "from pixelsr.cli import main; main()"


WATCHED = """
import pathlib
import torch.distributed as dist

destroy = dist.destroy_process_group

def count():
    names = [task.read_text() for task in pathlib.Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)

def destroy_and_report():
    assert count()
    destroy()
    print(count(), "threads of Gloo", flush=True)

dist.destroy_process_group = destroy_and_report
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    for k, image in enumerate(random_images(20)):
        from_tensor(image).save(path / f"{k}.png")
    return path


def run(*arguments):
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)


def train(folder, out, *options, workers=None):
    launch = ("torch.distributed.run", *TORCHRUN, workers, "-m") if workers else ()
    common = ("--val", folder, "-o", out, *TINY, "--validate-every", 4)
    return run(*launch, "pixelsr.cli", "train", folder, *common, *options)


def log(out):
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    curve = [entry["train"] for entry in entries if "train" in entry]
    return curve, [entry["validation"]["sum"] for entry in entries if "validation" in entry]


@pytest.mark.slow
def test_two_processes_train_as_one_with_batches_of_twice_the_size(folder, tmp_path):
    # A cosine schedule would end with each part of the run, and a small rate would hide a wrong
    # gradient.
    common = ("--schedule", "halving", "--halve-every", 5, "--warmup", 0, "--lr", 0.01)
    halves = (*common, "--batch", 2, "--accumulate", 2)
    for result in (
        train(folder, tmp_path / "one", *common, "--steps", 9, "--batch", 8),
        train(folder, tmp_path / "two", *halves, "--steps", 6, workers=2),
        train(folder, tmp_path / "two", *halves, "--steps", 9, "--resume", workers=2),
    ):
        assert result.returncode == 0, result.stderr
        assert "Warning" not in result.stderr
    assert result.stdout.count("Done after 9 steps") == 1  # only the first worker prints
    assert "from step 6" in result.stdout
    (one, one_validated), (two, two_validated) = log(tmp_path / "one"), log(tmp_path / "two")
    assert len(one) == 9
    assert two == pytest.approx(one, abs=2e-4)
    assert two_validated[-1] == pytest.approx(one_validated[-1], abs=1e-4)


def test_a_step_of_two_processes_is_the_step_of_one(tmp_path):
    result = run(
        "torch.distributed.run", *TORCHRUN, "2", "-m", "tests.support.advance_state", tmp_path
    )
    assert result.returncode == 0, result.stderr
    alone = advance(Workers())
    for rank in range(2):
        for name, tensor in load_file(tmp_path / f"{rank}.safetensors").items():
            torch.testing.assert_close(tensor, alone[name], msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("limit", ["", slow(LIMIT)], ids=["done", "full disk"])
def test_the_threads_that_connect_workers_end_with_the_work(folder, tmp_path, limit):
    # If the threads last until Python exits, they sometimes abort it or block it.
    (tmp_path / "watched.py").write_text(WATCHED + limit + MAIN)
    options = ("train", folder, "-o", tmp_path / "out", *TINY, "--checkpoint-every", 2)
    launch = ("torch.distributed.run", *TORCHRUN, 2, tmp_path / "watched.py")
    result = run(*launch, *options, "--steps", 3)
    assert (result.returncode != 0) == bool(limit), result.stderr
    said = [line for line in result.stdout.splitlines() if line.endswith("threads of Gloo")]
    assert set(said) == {"0 threads of Gloo"}
    assert limit or len(said) == 2  # after an error, the launcher may end the other worker


@pytest.mark.slow
def test_a_full_disk_is_told_once_and_ends_all_workers(folder, tmp_path):
    (tmp_path / "limited.py").write_text(LIMIT + MAIN)
    options = ("train", folder, "-o", tmp_path / "out", *TINY, "--checkpoint-every", 2)
    launch = ("torch.distributed.run", *TORCHRUN, 2, tmp_path / "limited.py")
    result = run(*launch, *options, "--steps", 99)
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    checkpoint = tmp_path / "out" / "checkpoint.safetensors"
    assert said == [f"Error: {checkpoint} cannot be written: File too large"]
    assert "[rank" not in result.stderr
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        slow(-1, "--lr must be more than 0 and at most 1,000, got -1.0"),
        (1, "empty holds no image of at least 8x8 pixels"),
    ],
)
def test_bad_input_is_told_once_and_ends_all_workers(tmp_path, lr, message):
    (tmp_path / "empty").mkdir()
    options = ("--steps", 1, "--lr", lr)
    result = train(tmp_path / "empty", tmp_path / "out", *options, workers=2)
    assert result.returncode != 0
    (said,) = (line for line in result.stderr.splitlines() if line.startswith("Error"))
    assert said.endswith(message)
    assert "[rank" not in result.stderr  # torch would print the worker's traceback there


@pytest.mark.parametrize("rank", [slow(0), 1])
def test_a_signal_to_any_worker_saves_and_ends_all(folder, tmp_path, rank):
    out = tmp_path / "out"
    options = ("train", folder, "--val", folder, "-o", out, *TINY, "--steps", 10**6)
    launch = (sys.executable, "-m", "torch.distributed.run", *TORCHRUN, 2, "-m", "pixelsr.cli")
    with subprocess.Popen(
        list(map(str, (*launch, *options))),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        while not process.stdout.readline().startswith("step 3 "):
            assert process.poll() is None, process.stderr.read()
        os.kill(worker(process.pid, rank), signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=100)
    assert process.returncode != 0
    step = read_checkpoint(out / "checkpoint.safetensors")[1]["step"]
    assert (
        stdout.splitlines()[-1] == f"Saved at step {step}: the same command with --resume goes on."
    )
    assert "[rank" not in stderr
    assert not [line for line in stderr.splitlines() if line.startswith("Error")]
    result = train(folder, out, "--resume", "--steps", step + 1, workers=2)
    assert result.returncode == 0, result.stderr


def worker(launcher, rank):
    """Return the process of a rank that a launcher has started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    (found,) = (
        child
        for child in children
        if f"\0RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text()
    )
    return int(found)
