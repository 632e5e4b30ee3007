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
from tests.support.processes import command, module, run_workers, script, with_small_files
from tests.support.training_cases import random_images

ROOT = Path(__file__).parents[2]
TORCHRUN = ("--standalone", "--nproc-per-node")


WATCHED = """
import pathlib, sys
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

from pixelsr.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    for k, image in enumerate(random_images(20)):
        from_tensor(image).save(path / f"{k}.png")
    return path


def train(folder, out, *options, workers=1):
    """Train, and return what the process of each worker did."""
    common = ("--val", folder, "-o", out, *TINY, "--validate-every", 4)
    return run_workers(workers, command, "train", folder, *common, *options)


def errors_of(workers):
    lines = "".join(worker.stderr for worker in workers).splitlines()
    return [line for line in lines if line.startswith("Error")]


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
    for workers in (
        train(folder, tmp_path / "one", *common, "--steps", 9, "--batch", 8),
        train(folder, tmp_path / "two", *halves, "--steps", 6, workers=2),
        train(folder, tmp_path / "two", *halves, "--steps", 9, "--resume", workers=2),
    ):
        for worker in workers:
            assert worker.returncode == 0, worker.stderr
            assert "Warning" not in worker.stderr
    first, second = workers
    assert "Done after 9 steps" in first.stdout
    assert "from step 6" in first.stdout
    assert second.stdout == ""  # only the first worker prints
    (one, one_validated), (two, two_validated) = log(tmp_path / "one"), log(tmp_path / "two")
    assert len(one) == 9
    assert two == pytest.approx(one, abs=2e-4)
    assert two_validated[-1] == pytest.approx(one_validated[-1], abs=1e-4)


def test_a_step_of_two_processes_is_the_step_of_one(tmp_path):
    for worker in run_workers(2, module, "tests.support.advance_state", tmp_path):
        assert worker.returncode == 0, worker.stderr
    alone = advance(Workers())
    for rank in range(2):
        for name, tensor in load_file(tmp_path / f"{rank}.safetensors").items():
            torch.testing.assert_close(tensor, alone[name], msg=lambda text, n=name: f"{n}: {text}")


def watched(folder, out):
    """Return the work of a training that reports the threads that connect its workers."""
    options = ("train", folder, "-o", out, *TINY, "--checkpoint-every", 2, "--steps", 3)
    return script, WATCHED, *options


def assert_no_threads(worker):
    """Check that the threads end with the work.

    If the threads last until Python exits, they sometimes abort it or block it.
    """
    said = [line for line in worker.stdout.splitlines() if line.endswith("threads of Gloo")]
    assert said == ["0 threads of Gloo"]


def test_the_threads_that_connect_workers_end_with_the_work(folder, tmp_path):
    for worker in run_workers(2, *watched(folder, tmp_path / "out")):
        assert worker.returncode == 0, worker.stderr
        assert_no_threads(worker)


def test_a_full_disk_is_told_once_and_ends_all_workers(folder, tmp_path):
    workers = run_workers(2, with_small_files, 20_000, *watched(folder, tmp_path / "out"))
    for worker in workers:
        assert worker.returncode == 1
        assert_no_threads(worker)
    checkpoint = tmp_path / "out" / "checkpoint.safetensors"
    assert errors_of(workers) == [f"Error: {checkpoint} cannot be written: File too large"]
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        (-1, "--lr must be more than 0 and at most 1,000, got -1.0"),
        (1, "empty holds no image of at least 8x8 pixels"),
    ],
)
def test_bad_input_is_told_once_and_ends_all_workers(tmp_path, lr, message):
    (tmp_path / "empty").mkdir()
    options = ("--steps", 1, "--lr", lr)
    workers = train(tmp_path / "empty", tmp_path / "out", *options, workers=2)
    assert [worker.returncode for worker in workers] == [1, 1]
    (said,) = errors_of(workers)
    assert said.endswith(message)
    assert not any("Traceback" in worker.stderr for worker in workers)


@pytest.mark.parametrize("rank", [slow(0), 1])
def test_a_signal_to_any_worker_saves_and_ends_all(folder, tmp_path, rank):
    out = tmp_path / "out"
    options = ("train", folder, "--val", folder, "-o", out, *TINY, "--steps", 10**6)
    launch = (sys.executable, "-m", "torch.distributed.run", *TORCHRUN, 2, "-m", "pixelsr")
    with subprocess.Popen(
        list(map(str, (*launch, *options))),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        while not process.stdout.readline().startswith("step 3 "):
            assert process.poll() is None, process.stderr.read()
        os.kill(process_of(process.pid, rank), signal.SIGTERM)
        try:
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.terminate()  # workers that wait for each other would never end
    assert process.returncode != 0
    step = read_checkpoint(out / "checkpoint.safetensors")[1]["step"]
    assert (
        stdout.splitlines()[-1] == f"Saved at step {step}: the same command with --resume goes on."
    )
    assert "[rank" not in stderr
    assert not [line for line in stderr.splitlines() if line.startswith("Error")]
    for worker in train(folder, out, "--resume", "--steps", step + 1, workers=2):
        assert worker.returncode == 0, worker.stderr


def process_of(launcher, rank):
    """Return the process of a rank that a launcher has started."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    (found,) = (
        child
        for child in children
        if f"\0RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text()
    )
    return int(found)
