"""Tests of `pixelsr sample`: a prior's images and their grid, or one sentence and no file."""

from pathlib import Path

import pytest
import torch
from click.testing import Result
from PIL import Image

import pixelsr
from pixelsr.data.crop import from_tensor
from pixelsr.utils.contact_sheet import draw_grid
from tests.support.command_cases import holds, invoke, prior, read_image, refusal, tiny, written
from tests.support.helpers import randomize


@pytest.fixture
def model(tmp_path) -> Path:
    prior().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def sample(*arguments: object) -> Result:
    return invoke("sample", *arguments)


def drawn(out: Path) -> torch.Tensor:
    return torch.stack([read_image(path) for path in sorted(out.glob("sample-*.png"))])


def test_writes_what_the_sampler_draws(model, out):
    options = ["--size", "5x7", "-n", 3, "--seed", 4, "--temperature", 0.5]
    result = sample("--model", model, "-o", out, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"3 images in {out}, side by side in {out / 'sheet.png'}\n"
    names = [f"sample-000{k}.png" for k in (1, 2, 3)]
    assert list(written(out)) == [*names, "sheet.png"]
    expected = pixelsr.sample(prior(), n=3, image_size=(5, 7), seed=4, temperature=0.5)
    assert torch.equal(drawn(out), expected)


def test_a_plain_pixelcnn_is_a_prior_too(out, tmp_path):
    plain = randomize(pixelsr.PixelCNN(channels=6, layers=1, head_channels=8)).eval()
    plain.save_pretrained(tmp_path / "plain")
    result = sample("--model", tmp_path / "plain", "-o", out, "--size", 4, "-n", 1)
    assert result.exit_code == 0, result.output
    assert torch.equal(drawn(out), pixelsr.sample(plain, image_size=(4, 4)))


def test_tau_and_max_batch_reach_the_sampler(model, out):
    options = ["--size", 4, "-n", 3, "--tau", 2, "--max-batch", 2, "--engine", "reference"]
    assert sample("--model", model, "-o", out, *options).exit_code == 0
    assert torch.equal(drawn(out), pixelsr.sample(prior(), n=3, image_size=(4, 4), temperature=0.5))


def test_first_index_goes_on_where_another_run_ended(model, tmp_path):
    options = ["--model", model, "--size", 4]
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    assert sample(*options, "-o", whole, "-n", 4).exit_code == 0
    assert sample(*options, "-o", rest, "-n", 2, "--first-index", 2).exit_code == 0
    assert list(written(rest)) == ["sample-0003.png", "sample-0004.png", "sheet.png"]
    for name in ("sample-0003.png", "sample-0004.png"):
        assert written(rest)[name] == written(whole)[name]


def test_the_trained_size_is_the_default(model, out):
    (model / "training.toml").write_text("size = 6\n")
    assert sample("--model", model, "-o", out, "-n", 1).exit_code == 0
    assert read_image(out / "sample-0001.png").shape == (3, 6, 6)


def test_two_levels_of_gray_are_black_and_white(out, tmp_path):
    binary = prior(colors=1, levels=2)
    binary.save_pretrained(tmp_path / "binary")
    result = sample("--model", tmp_path / "binary", "-o", out, "--size", 4, "-n", 2)
    assert result.exit_code == 0, result.output
    expected = 255 * pixelsr.sample(binary, n=2, image_size=(4, 4))
    assert torch.equal(drawn(out), expected.expand(-1, 3, -1, -1))


# --- the grid ---


def test_the_sheet_holds_every_image(model, out):
    assert sample("--model", model, "-o", out, "--size", "5x7", "-n", 5).exit_code == 0
    sheet = Image.open(out / "sheet.png")
    assert all(holds(sheet, image, 36) for image in drawn(out))


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (16, 4, 4), (400, 20, 20)]
)
def test_the_grid_is_nearly_square(count, columns, rows):
    grid = draw_grid([Image.new("RGB", (64, 64))] * count)
    scale = {1: 4, 2: 4, 3: 4, 4: 4, 20: 1}[columns]
    assert grid.size == tuple(28 + k * (64 * scale + 4) for k in (columns, rows))


def test_the_sheet_of_many_images_shows_the_first_and_says_so(model, out, monkeypatch):
    monkeypatch.setattr("pixelsr.cli.sample.MAX_TILES", 2)
    result = sample("--model", model, "-o", out, "--size", 4, "-n", 3)
    assert result.stdout == f"3 images in {out}, the first 2 side by side in {out}/sheet.png\n"
    sheet = Image.open(out / "sheet.png")
    assert [holds(sheet, image, 64) for image in drawn(out)] == [True, True, False]


def test_the_grid_reads_row_by_row():
    tiles = [torch.full((3, 64, 64), value, dtype=torch.uint8) for value in (10, 20, 30)]
    grid = draw_grid([from_tensor(tile) for tile in tiles])
    second = 20 + 256 + 16
    points = [grid.getpixel(xy)[0] for xy in ((20, 20), (second, 20), (20, second))]
    assert points == [10, 20, 30]


# --- refused arguments ---


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tau", 1, "--temperature", 1], "not both"),
        (["--tau", 0], "x>0"),
        (["--temperature", "nan"], "finite"),
        (["-n", 0], "1<=x<=1000000"),
        (["--size", 0], "'0' is not H or HxW: whole numbers of pixels from 1 to 16384"),
        (["--size", "8x"], "'8x' is not H or HxW"),
        (["--size", "8x-1"], "'8x-1' is not H or HxW"),
        (["--size", "8x8x8"], "'8x8x8' is not H or HxW"),
        (["--size", 16385], "'16385' is not H or HxW"),
        (["--size", "large"], "'large' is not H or HxW"),
        (["--seed", -1], "0<=x<=18446744073709551615"),
        (["--first-index", -1], "0<=x<=9223372036854775807"),
        (["--first-index", 2**63 - 1], "first_index + samples must be at most 2^63 - 1"),
        (["--engine", "steam"], "steam"),
        (["--engine", "cuda"], "engine 'cuda' cannot run"),
        (["--max-batch", 0], "x>=1"),
        (["--threads", 0], "1<=x<=1024"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--model", "faces-8x32"], "model faces-8x32 needs small images"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused(model, out, options, reason):
    if options == ["--engine", "cuda"] and torch.cuda.is_available():
        pytest.skip("a CUDA engine may run here")
    message = refusal(sample("--model", model, "--size", 4, "-o", out, *options), out)
    assert reason in message
    assert not out.exists()


def test_a_model_that_tells_no_size_needs_one(model, out):
    message = refusal(sample("--model", model, "-o", out), out)
    assert message == (
        f"Error: model {model} has no training.toml with the size it was trained at: give --size"
    )


def test_a_model_must_be_given(out):
    assert "--model" in refusal(sample("-o", out), out)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (tiny, "pixelsr enlarge"),
        (lambda: tiny().conditioning, "is a ConditioningNetwork"),
        (lambda: prior(colors=2), "draws 2 colors; images need 1 or 3"),
    ],
    ids=["enlarger", "conditioning", "2 colors"],
)
def test_a_model_that_is_no_prior_of_images_is_refused(out, tmp_path, network, reason):
    network().save_pretrained(tmp_path / "other")
    message = refusal(sample("--model", tmp_path / "other", "--size", 4, "-o", out), out)
    assert reason in message


def test_a_folder_in_the_place_of_an_image_is_refused(model, out):
    (out / "sample-0002.png").mkdir(parents=True)
    result = sample("--model", model, "--size", 4, "-o", out)
    assert "sample-0002.png is a folder" in result.stderr
    assert [path.name for path in out.iterdir()] == ["sample-0002.png"]


def test_out_that_is_a_file_is_refused(model, tmp_path):
    out = tmp_path / "out.png"
    out.write_text("mine")
    message = refusal(sample("--model", model, "--size", 4, "-o", out), out)
    assert f"{out} is a file" in message
