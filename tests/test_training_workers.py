"""Training under `torchrun`: several processes are one with larger batches."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from pixelsr.data.small import from_tensor
from tests.test_train_command import TINY
from tests.test_training import pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    for k, image in enumerate(pictures(20)):
        from_tensor(image).save(path / f"{k}.png")
    return path


def train(folder, out, *options, workers=None):
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={workers}", "-m"]
    command = [sys.executable, "-m", *(launch if workers else []), "pixelsr.cli", "train"]
    command += [folder, "--val", folder, "-o", out, *TINY, "--validate-every", 4, *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)


def log(out):
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    curve = [entry["train"] for entry in entries if "train" in entry]
    return curve, [entry["validation"]["sum"] for entry in entries if "validation" in entry]


def test_two_processes_train_as_one_with_batches_of_twice_the_size(folder, tmp_path):
    common = ("--schedule", "halving", "--halve-every", 5)  # a cosine would end with each part
    halves = (*common, "--batch", 2, "--accumulate", 2)
    for result in (
        train(folder, tmp_path / "one", *common, "--steps", 9, "--batch", 8),
        train(folder, tmp_path / "two", *halves, "--steps", 6, workers=2),
        train(folder, tmp_path / "two", *halves, "--steps", 9, "--resume", workers=2),
    ):
        assert result.returncode == 0, result.stderr
    assert result.stdout.count("Done after 9 steps") == 1  # the first worker speaks, alone
    assert "from step 6" in result.stdout
    (one, one_validated), (two, two_validated) = log(tmp_path / "one"), log(tmp_path / "two")
    assert len(one) == 9
    assert two == pytest.approx(one, abs=2e-4)
    assert two_validated[-1] == pytest.approx(one_validated[-1], abs=1e-4)
    for name, tensor in load_file(tmp_path / "one" / "model" / "model.safetensors").items():
        other = load_file(tmp_path / "two" / "model" / "model.safetensors")[name]
        torch.testing.assert_close(other, tensor, rtol=1e-3, atol=1e-4)


def test_bad_input_is_told_once_and_ends_all_workers(folder, tmp_path):
    result = train(folder, tmp_path / "out", "--steps", 1, "--lr", -1, workers=2)
    assert result.returncode != 0
    assert "Error: lr must be positive and finite, got -1.0" in result.stderr
