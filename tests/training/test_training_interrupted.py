"""Tests of runs that are killed, interrupted, or out of disk space: they lose few steps."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pixelsr.data.crop import from_tensor
from pixelsr.training.checkpoint import read_checkpoint
from tests.support.command_cases import TINY
from tests.support.helpers import slow
from tests.support.processes import Process, command, run, with_small_files
from tests.support.training_cases import random_images

STEPS = 60
OPTIONS = [
    *TINY,
    "--steps",
    STEPS,
    "--checkpoint-every",
    7,
    "--validate-every",
    20,
    "--log-every",
    1,
]
OPTIONS += ["--grid", 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    for k, image in enumerate(random_images(10)):
        from_tensor(image).save(path / f"{k}.png")
    return path


def options(folder, out, *more):
    return ["train", folder, "--val", folder, "-o", out, *OPTIONS, *more]


def start(*arguments):
    return Process(command, *options(*arguments))


def finish(*arguments):
    """Run a command to its end, without an error."""
    done = run(command, *options(*arguments))
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """Return the folder of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "out"
    finish(folder, out)
    return out


def assert_same_run(out, whole):
    for name in ("checkpoint.safetensors", "model/model.safetensors"):
        expected, got = load_file(whole / name), load_file(out / name)
        assert expected.keys() == got.keys()
        assert [key for key in expected if not torch.equal(expected[key], got[key])] == []
    figures = []
    for path in (out, whole):
        entries = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
        figures.append([e["validation"] for e in entries if "validation" in e])
    assert figures[0] == figures[1]
    last = f"samples/step-{STEPS:07d}.png"
    with Image.open(out / last) as drawn, Image.open(whole / last) as expected:
        assert drawn.tobytes() == expected.tobytes()
    assert not list(out.rglob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, slow(8)])
def test_a_run_killed_at_random_moments_ends_with_the_same_weights(folder, whole, tmp_path, times):
    out = tmp_path / "out"
    moments, kills = random.Random(0), 0
    for _ in range(30):
        resume = ["--resume"] if (out / "checkpoint.safetensors").exists() else []
        with start(folder, out, *resume) as process:
            lives = kills < times and process.stdout.readline()  # it has started
            if lives:
                time.sleep(moments.uniform(0.02, 0.2))
                process.send_signal(signal.SIGKILL)
            _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
    assert kills == times
    assert process.returncode == 0
    assert_same_run(out, whole)


def test_a_run_that_is_interrupted_ends_with_the_same_weights(folder, whole, tmp_path):
    out = tmp_path / "out"
    with start(folder, out) as process:
        while not process.stdout.readline().startswith("step 10 "):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert text.splitlines()[-1].startswith("Saved at step 1")
    finish(folder, out, "--resume")
    assert_same_run(out, whole)


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(folder, whole, tmp_path):
    # This limits the size of a file: the raw images fit, but a checkpoint does not.
    size = (whole / "checkpoint.safetensors").stat().st_size
    out = tmp_path / "out"
    finish(folder, out, "--steps", 10)
    before = (out / "checkpoint.safetensors").read_bytes()
    done = run(with_small_files, size // 2, command, *options(folder, out, "--resume"))
    assert done.returncode == 1
    checkpoint = out / "checkpoint.safetensors"
    assert done.stderr == f"Error: {checkpoint} cannot be written: File too large\n"
    assert checkpoint.read_bytes() == before
    assert read_checkpoint(out / "checkpoint.safetensors")[1]["step"] == 10
    assert not list(out.rglob("*.partial"))


# Lost standard output.


@pytest.mark.parametrize("lost", ["full", slow("closed")])
def test_a_run_that_cannot_show_itself_saves_and_says_so(folder, whole, tmp_path, lost):
    out = tmp_path / "out"
    read, write = os.pipe()
    stdout = os.open("/dev/full", os.O_WRONLY) if lost == "full" else write
    line = [sys.executable, "-m", "pixelsr", *options(folder, out, "--log-every", 5)]
    with subprocess.Popen(
        list(map(str, line)), stdout=stdout, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(write)
        if lost == "closed":
            while b"step 5 " not in os.read(read, 10_000):
                assert process.poll() is None, process.stderr.read()
        os.close(read)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    if lost == "full":  # the first line fails already
        assert errors == "Error: standard output cannot be written: No space left on device\n"
        assert not out.exists()
        return
    step = read_checkpoint(out / "checkpoint.safetensors")[1]["step"]
    assert errors == (
        "Error: standard output cannot be written: Broken pipe; "
        f"{out / 'checkpoint.safetensors'} holds the state after {step} steps\n"
    )
    finish(folder, out, "--resume")
    assert_same_run(out, whole)
