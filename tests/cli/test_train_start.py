"""Tests of a run's start: sizes come from images, options from OUT; a failure leaves nothing."""

import gzip
import json
import struct

import pytest
import tomlkit
import torch
from PIL import Image

import pixelsr
from pixelsr.data.sources import common_side
from tests.support.command_cases import BINARY, TINY, invoke
from tests.support.training_cases import CHECKPOINT

MODEL = [option for option in BINARY if not option.startswith(("--size", "--levels"))]


def run(*arguments):
    return invoke("train", *arguments)


def write_idx(path, count=6, rows=12, columns=12, seed=0):
    shape = (count, rows, columns)
    values = torch.randint(256, shape, generator=torch.Generator().manual_seed(seed))
    data = struct.pack(">4sIII", b"\0\0\x08\x03", *shape) + bytes(values.flatten().tolist())
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_labels(path):
    path.write_bytes(struct.pack(">4sI", b"\0\0\x08\x01", 6) + bytes(6))


def options_of(out):
    return tomlkit.parse((out / "model" / "training.toml").read_text()).unwrap()


# The size of the images.


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(12, 12), (12, 12)], 12),
        ([(12, 20), (12, 20)], 12),
        ([(12, 12), (13, 12)], 32),
        ([(40, 40), (12, 12)], 32),
        ([(40, 32)], 32),
        ([], 32),
    ],
    ids=str,
)
def test_the_common_side_is_that_of_images_of_one_small_size(tmp_path, sizes, side):
    (tmp_path / "0.txt").write_text("no image")
    for k, size in enumerate(sizes, 1):
        Image.new("RGB", size).save(tmp_path / f"{k}.png")
    assert common_side(tmp_path, 32) == side


@pytest.mark.parametrize("name", ["digits-idx3-ubyte.gz", "digits-idx3-ubyte"])
def test_the_size_follows_an_idx_file(tmp_path, name):
    out = tmp_path / "out"
    digits = write_idx(tmp_path / name)
    result = run(digits, "-o", out, *MODEL, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"--size is 12: that is the side of all images in {digits}\n"
    assert options_of(out)["size"] == 12


def test_a_size_that_is_given_is_taken(tmp_path):
    digits = write_idx(tmp_path / "digits")
    result = run(digits, "-o", tmp_path / "out", *MODEL, "--steps", 1, "--size", 32)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {digits} holds images of 12x12, smaller than 32x32\n"
    result = run(digits, "-o", tmp_path / "out", *MODEL, "--steps", 1, "--size", 6)
    assert result.exit_code == 0, result.output
    assert options_of(tmp_path / "out")["size"] == 6


def test_a_folder_that_holds_one_idx_file_of_images_is_that_file(tmp_path):
    digits = write_idx(tmp_path / "digits" / "train-images-idx3-ubyte.gz")
    write_labels(digits.with_name("train-labels-idx1-ubyte"))
    result = run(digits.parent, "-o", tmp_path / "out", *MODEL, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert "6 images" in result.stdout


def test_a_folder_of_several_idx_files_names_them(tmp_path):
    for name in ("t10k-images-idx3-ubyte", "train-images-idx3-ubyte"):
        write_idx(tmp_path / "digits" / name)
    result = run(tmp_path / "digits", "-o", tmp_path / "out", *MODEL, "--steps", 1)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path / 'digits'} holds several files of images, "
        "t10k-images-idx3-ubyte, train-images-idx3-ubyte: name one of them, "
        f"such as {tmp_path / 'digits' / 'train-images-idx3-ubyte'}\n"
    )


# The options that a resume takes from the run.


def test_a_resume_alone_takes_everything_from_the_run(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = [folder, "--val", folder, *TINY, "--schedule", "halving", "--lr", 0.02, "--no-flip"]
    assert run(*options, "-o", whole, "--steps", 4).exit_code == 0
    assert run(*options, "-o", parts, "--steps", 2).exit_code == 0
    result = run("--resume", "-o", parts, "--steps", 4)
    assert result.exit_code == 0, result.output
    assert "from step 2" in result.stdout
    assert "Done after 4 steps" in result.stdout
    weights = [(out / "model" / "model.safetensors").read_bytes() for out in (whole, parts)]
    assert weights[0] == weights[1]
    again = run("-o", parts, "--resume")
    assert again.exit_code == 0, again.output
    assert "Nothing was left to do after 4 steps" in again.stdout


def test_what_is_given_to_a_resume_must_agree_with_the_run(folder, tmp_path):
    assert run(folder, "-o", tmp_path / "out", *TINY, "--steps", 1).exit_code == 0
    result = run("--resume", "-o", tmp_path / "out", "--lr", 0.5, "--steps", 2)
    assert result.exit_code == 1
    assert result.stderr.endswith("is of another run: lr was 0.001, now it is 0.5\n")


def test_a_resume_alone_needs_a_run(tmp_path):
    result = run("--resume", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path / 'out' / CHECKPOINT} is missing: there is no run to resume\n"
    )


# The state after a failed start.


def test_a_failed_start_leaves_no_folder(folder, tmp_path):
    out = tmp_path / "runs" / "first"
    for bad in (["--size", 10], ["--accumulate", 7], ["--val", folder / "none"]):
        result = run(folder, "-o", out, *TINY, "--steps", 1, *bad)
        assert result.exit_code == 1
        assert not out.parent.exists(), bad


def test_a_failed_start_leaves_what_was_there_before(folder, tmp_path):
    out = tmp_path / "out"
    (out / "model").mkdir(parents=True)
    (out / "mine.txt").write_text("mine")
    before = sorted(out.rglob("*"))
    assert run(folder, "-o", out, *TINY, "--steps", 1, "--accumulate", 7).exit_code == 1
    assert sorted(out.rglob("*")) == before


def test_a_resume_that_fails_keeps_the_run(folder, tmp_path):
    out = tmp_path / "out"
    assert run(folder, "-o", out, *TINY, "--steps", 1).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run("--resume", "-o", out, "--accumulate", 7).exit_code == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


# The number of validation images.


def test_a_validation_takes_as_many_images_as_the_run_says(folder, tmp_path):
    out = tmp_path / "out"
    options = [folder, "--val", folder, "-o", out, *TINY]
    assert run(*options, "--steps", 1, "--val-images", 2).exit_code == 0
    assert options_of(out)["val-images"] == 2
    few = tmp_path / "few"
    few.mkdir()
    for name in ("0.png", "3.png"):  # evenly spread over six
        (few / name).write_bytes((folder / name).read_bytes())
    assert run(folder, "--val", few, "-o", tmp_path / "b", *TINY, "--steps", 1).exit_code == 0
    found = [
        [json.loads(line).get("validation") for line in (path / "log.jsonl").open()]
        for path in (out, tmp_path / "b")
    ]
    assert found[0] == found[1]
    result = run("--resume", "-o", out, "--steps", 2, "--val-images", 3)
    assert result.exit_code == 1
    assert "is of another run: validation images was [2, 3, 8, 8]" in result.stderr
    assert pixelsr.PixelRecursiveSR.from_pretrained(out / "model")
