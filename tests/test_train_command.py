"""`pixelsr train`, as its user meets it."""

import signal
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import pixelsr
from pixelsr.cli import main
from pixelsr.cli.errors import sentence
from pixelsr.training import checkpoint as checkpoints
from tests.test_training import CHECKPOINT, pictures

TINY_MODEL = {"channels": 4, "layers": 1, "head-channels": 8, "conditioning-channels": 4}
TINY_RUN = {"size": 8, "magnification": 2, "conditioning-blocks": 1, "batch": 4, "threads": 1}
TINY = [f"--{name}={value}" for name, value in (TINY_MODEL | TINY_RUN | {"log-every": 1}).items()]


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    """The command sets them for the whole process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    for k, image in enumerate(pictures(6)):
        Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path / f"{k}.png")
    return path


def run(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_the_command_trains_and_resumes(folder, tmp_path):
    (folder / "notes.txt").write_text("not a picture")
    options = [folder, "--val", folder, "-o", tmp_path / "out", *TINY]
    result = run(*options, "--steps", 2)
    assert result.exit_code == 0, result.output
    assert "notes.txt" in result.stderr
    assert "step 2  validation, bits/dim: sum " in result.stdout
    assert "Done after 2 steps" in result.stdout
    result = run(*options, "--steps", 3, "--resume")
    assert result.exit_code == 0, result.output
    assert "from step 2" in result.stdout
    model = pixelsr.PixelRecursiveSR.from_pretrained(tmp_path / "out" / "model")
    assert model.magnification == 2


def test_the_same_seed_gives_the_same_model(folder, tmp_path):
    models = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        result = run(folder, "-o", tmp_path / name, *TINY, "--steps", 1, "--seed", seed)
        assert result.exit_code == 0, result.output
        models.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert models[0] == models[1] != models[2]


def test_the_command_trains_a_prior_alone(folder, tmp_path):
    options = ["--model", "PixelCNN", "--size", 8, "--channels", 3, "--layers", 2, "--steps", 1]
    result = run(folder, "-o", tmp_path / "out", *options, "--head-channels", 6, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert pixelsr.PixelCNN.from_pretrained(tmp_path / "out" / "model").config.layers == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "a training run needs an end"),
        (["--steps", 1, "--lr", -1], "lr must be positive"),
        (["--minutes", "nan"], "minutes must be positive and finite, got nan"),
        (["--steps", 1, "--size", 9], "--size 9 is not a multiple of the magnification, 2"),
        (["--steps", 1, "--size", 10], "holds no picture of at least 10x10 pixels"),
        (["--steps", 1, "--magnification", 3], "magnification must be a power of two, got 3"),
        (["--steps", 1, "--kernel-size", 4], "4"),
        (["--steps", 1, "--model", "PixelCNN"], "PixelCNN is a prior alone"),
        (["--steps", 1, "--resume"], "there is no run to resume"),
        (["--steps", 1, "-o", "{folder}/0.png"], "0.png cannot be written: "),
        (["--steps", 1, "-o", "{folder}/0.png/out"], "out cannot be written: Not a directory"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_options_give_one_sentence(folder, tmp_path, options, message):
    options = [str(option).format(folder=folder) for option in options]
    result = run(folder, "-o", tmp_path / "out", *TINY, *options)
    assert result.exit_code == 1
    *skipped, last = result.stderr.splitlines()
    assert message in last
    assert all(line.startswith("skipped: ") for line in skipped)
    assert not (tmp_path / "out" / CHECKPOINT).exists()


def test_an_error_of_the_system_names_the_file_and_no_number():
    error = PermissionError(13, "Permission denied", "out/log.jsonl")
    assert sentence(error) == "out/log.jsonl: Permission denied"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_gives_one_sentence(folder, tmp_path):
    result = run(folder, "-o", tmp_path / "out", *TINY, "--steps", 1, "--device", "cuda")
    assert result.exit_code == 1
    assert result.stderr == "Error: --device cuda: PyTorch finds no CUDA device on this machine\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_the_command(folder, tmp_path, number):
    out = tmp_path / "out"
    options = [folder, "-o", out, *TINY, "--steps", 10**6]
    command = [sys.executable, "-m", "pixelsr.cli", "train", *options]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not process.stdout.readline().startswith("step 3"):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in stderr
    _, facts = checkpoints.read_checkpoint(out / CHECKPOINT)
    assert facts["step"] >= 3
    assert stdout.splitlines()[-1].startswith(f"Saved at step {facts['step']}: ")
    assert not list(out.glob("*.partial"))
