"""Tests of `pixelsr evaluate`: its table, its JSON, and the arguments that it refuses."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import Result

import pixelsr
from pixelsr.data.crop import from_tensor
from pixelsr.data.image_io import save_image
from pixelsr.evaluation import evaluate
from tests.support.command_cases import invoke, tiny
from tests.support.evaluation_cases import model, noise


def save(folder: Path, images: torch.Tensor) -> Path:
    folder.mkdir()
    for k, image in enumerate(images):
        save_image(from_tensor(image), folder / f"{k}.png")
    return folder


@pytest.fixture
def network(tmp_path) -> Path:
    model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def held_out(tmp_path) -> Path:
    return save(tmp_path / "held out", noise(3, 16))


@pytest.fixture
def train(tmp_path) -> Path:
    return save(tmp_path / "train", noise(4, 16, seed=1))


def run(*arguments: object) -> Result:
    return invoke("evaluate", *arguments)


def row(output: str, name: str) -> list[str]:
    """Return the results beside a name."""
    (line,) = (line for line in output.splitlines() if line.strip().startswith(name))
    return line.strip().removeprefix(name).split()


def refusal(result: Result, status: int) -> str:
    assert isinstance(result.exception, SystemExit), result.exception  # else: a traceback
    assert result.exit_code == status
    assert result.stdout == ""
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    return line


def test_what_it_prints_and_writes_is_the_report(network, held_out, train, tmp_path):
    file = tmp_path / "new" / "report.json"
    options = ["--samples", 2, "--max-images", 2, "--batch", 3, "--seed", 4, "--tau", 2]
    result = run(
        *(held_out, "--model", network, "--train", train, "--size", 16, "--json", file), *options
    )
    assert result.exit_code == 0, result.output
    report = evaluate(
        model(),
        noise(3, 16),
        train=noise(4, 16, seed=1),
        samples=2,
        max_images=2,
        batch=3,
        seed=4,
        temperature=0.5,
    )
    written = json.loads(file.read_text())
    named = {"model": str(network), "folder": str(held_out), "train": str(train)}
    assert written == {**named, **report.as_json()}
    for name, bits in report.bits_per_dimension.items():
        assert row(result.stdout, name) == [f"{bits:.4f}", f"{report.nats_per_image[name]:.2f}"]
    names = {"drawn by the model": "model", "bicubic": "bicubic"}
    for label, name in {**names, "nearest neighbor": "nearest_neighbor"}.items():
        scores = written["enlargement"]["scores"][name]
        psnr, ssim = f"{scores['psnr']:.2f}", f"{scores['ssim']:.4f}"
        assert row(result.stdout, label) == [psnr, ssim, "-", f"{scores['consistency']:.6f}"]
    assert "3 images of 16x16" in result.stdout
    assert "2 samples of each, seed 4, temperature 0.5, engine " in result.stdout
    assert "MS-SSIM is not defined at 16x16: it needs 176 pixels a side" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stderr == ""


def test_without_training_images_it_says_what_is_missing(network, held_out, tmp_path):
    file = tmp_path / "report.json"
    result = run(held_out, "--model", network, "--size", 16, "--max-images", 1, "--json", file)
    assert result.exit_code == 0, result.output
    assert "no nearest neighbor: --train" in result.stdout
    assert json.loads(file.read_text())["train"] is None


def test_the_size_is_that_of_the_training_if_known(network, held_out):
    assert "of at least 32x32 pixels" in refusal(run(held_out, "--model", network), 1)
    (network / "training.toml").write_text("size = 8\n")
    result = run(held_out, "--model", network, "--max-images", 1)
    assert result.exit_code == 0, result.output
    assert "3 images of 8x8" in result.stdout


def test_a_prior_alone_gets_bits_and_no_table(held_out, tmp_path):
    model().prior.save_pretrained(tmp_path / "prior")
    result = run(held_out, "--model", tmp_path / "prior", "--size", 16)
    assert result.exit_code == 0, result.output
    assert len(row(result.stdout, "model")) == 2
    assert "levels" not in result.stdout
    assert "bicubic" not in result.stdout


def test_a_gray_model_is_measured_on_gray_images(held_out, tmp_path):
    model(colors=1, levels=7).save_pretrained(tmp_path / "gray")
    result = run(held_out, "--model", tmp_path / "gray", "--size", 8, "--max-images", 1)
    assert result.exit_code == 0, result.output
    assert "quantized to 7 levels: do not compare these bits" in result.stdout


def test_the_binarization_is_the_one_of_the_training_or_the_one_that_is_given(held_out, tmp_path):
    folder, file = tmp_path / "binary", tmp_path / "report.json"
    model(colors=1, levels=2).save_pretrained(folder)
    options = [held_out, "--model", folder, "--size", 8, "--max-images", 1, "--json", file]
    message = refusal(run(*options), 1)
    assert "(--binarize) to threshold (white from 128 on) or to bernoulli" in message
    assert not file.exists()
    found = {}
    for kept, given in (
        (None, "threshold"),
        ("threshold", None),
        ("bernoulli", None),
        ("threshold", "bernoulli"),
    ):
        (folder / "training.toml").write_text(f'binarize = "{kept}"\n' if kept else "")
        result = run(*options, *(["--binarize", given] if given else []))
        assert result.exit_code == 0, result.output
        assert f"the images were binarized by {given or kept}: " in result.stdout
        report = json.loads(file.read_text())
        assert (report["levels"], report["binarize"]) == (2, given or kept)
        found.setdefault(given or kept, []).append(report["bits_per_dimension"])
    assert all(first == second for first, second in found.values())
    assert found["threshold"] != found["bernoulli"]


def test_a_binarization_that_a_model_cannot_have_is_refused(network, held_out):
    options = [held_out, "--model", network, "--size", 16]
    message = refusal(run(*options, "--binarize", "threshold"), 1)
    assert "--binarize threshold is for models of 2 levels, and this one has 256" in message
    (network / "training.toml").write_text("binarize = 3\n")
    message = refusal(run(*options), 1)
    assert "training.toml: binarize must be one of ['threshold', 'bernoulli'], got 3" in message


def test_an_unreadable_image_is_named_and_left_out(network, held_out):
    (held_out / "words.png").write_text("not an image")
    result = run(held_out, "--model", network, "--size", 8, "--max-images", 1)
    assert result.exit_code == 0, result.output
    assert "words.png" in result.stderr
    assert "3 images of 8x8" in result.stdout


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--temperature", 1, "--tau", 1], 2, "not both"),
        (["--samples", 0], 2, "x>=1"),
        (["--engine", "steam"], 2, "steam"),
        (["--engine", "triton"], 1, "engine 'triton' cannot run"),
        (["--size", 9], 1, "sides that are multiples of 2, got 9x9"),
        (["--model", "no-such-model"], 1, "no-such-model"),
        (["--train", "{tmp}/nowhere"], 1, "nowhere is not a folder of images"),
        (["--json", "{tmp}/train/0.png/report.json"], 1, "0.png is a file"),
        (["--json", "{tmp}/train"], 1, "train is a folder"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_a_bad_option_is_refused(network, held_out, train, tmp_path, options, status, message):
    options = [str(option).format(tmp=tmp_path) for option in options]
    before = sorted(tmp_path.rglob("*"))
    result = run(held_out, "--model", network, "--size", 16, *options)
    assert message in refusal(result, status)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_not_there_is_refused(network, tmp_path):
    message = refusal(run(tmp_path / "nowhere", "--model", network, "--size", 16), 1)
    assert "nowhere is not a folder of images" in message


def test_a_size_that_does_not_fit_is_refused_before_images_are_read(network, tmp_path):
    result = run(tmp_path / "nowhere", "--model", network, "--size", 9)
    assert "sides that are multiples of 2, got 9x9" in refusal(result, 1)


def test_a_closed_place_for_the_json_is_refused_before_the_work(network, held_out, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr(pixelsr.PixelRecursiveSR, "from_pretrained", None)
    options = ["--model", network, "--size", 16, "--json", "nowhere/report.json"]
    assert "no permission" in refusal(run(held_out, *options), 1)


def test_a_prior_takes_no_training_images(held_out, train, tmp_path):
    tiny().prior.save_pretrained(tmp_path / "prior")
    message = refusal(run(held_out, "--model", tmp_path / "prior", "--train", train), 1)
    assert "is a GatedPixelCNN, which enlarges nothing" in message


def test_a_full_disk_leaves_no_json(network, held_out, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    folder = tmp_path / "out"
    options = ["--model", network, "--size", 8, "--max-images", 1, "--json", folder / "report.json"]
    assert "No space left on device" in refusal(run(held_out, *options), 1)
    assert not list(folder.iterdir())
