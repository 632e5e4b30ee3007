"""Tests of `python -m experiments faces`: faces enlarged by every method."""

import dataclasses
import math

import pytest
import torch
from PIL import Image

from experiments.faces import experiment as faces
from experiments.faces import methods
from experiments.support.baselines import SIGMA, Regression, draw_independently
from pixelsr import ConditioningNetwork, GatedPixelCNN, PixelRecursiveSR, sample
from pixelsr.evaluation import metrics
from tests.support.experiment_cases import read_results, run, write_faces

TINY = {"channels": 6, "layers": 1, "kernel_size": 3, "head_channels": 6}
WAYS = ["bicubic", "nearest neighbor", "L2 regression", "A alone", "B alone"]
TAUS = ["tau 1.0", "tau 1.1", "tau 1.2"]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Make the networks tiny, and restore the number of threads."""
    small = faces.SCALES["small"]
    tiny = dataclasses.replace(small, prior=TINY, conditioning={"blocks": 1, "channels": 4})
    monkeypatch.setitem(faces.SCALES, "small", tiny)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    return write_faces(tmp_path / "data" / "faces", 32, train=8, val=3).parent


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(3)
    network = PixelRecursiveSR(GatedPixelCNN(**TINY), ConditioningNetwork(channels=4, blocks=1))
    network.save_pretrained(tmp_path / "other")
    return tmp_path / "other"


def test_every_method_is_scored_and_shown(data, model, tmp_path):
    out = tmp_path / "out"
    result = run("faces", "--data", data, "--out", out, "--model", model, "--steps", 2)
    assert result.exit_code == 0, result.output
    found = read_results(out, "faces")
    ways = [*WAYS, *(f"{name}, {tau}" for name in ("A + B", "other") for tau in TAUS)]
    assert list(found["methods"]) == ways
    assert found["settings"]["training_images"] == 4
    for title, scores in found["methods"].items():
        assert 0 < scores["psnr"] < 30
        assert scores["ms_ssim"] is None
        assert ("psnr_between_draws" in scores) == (title not in WAYS[:3])
    assert found["models"]["regression"]["bits_per_dimension"] is None
    assert 7 < found["models"]["other"]["bits_per_dimension"] < 9
    sheets = {"photos-faces": 13, "faces-draws": 9, "faces-portraits": 12}
    for name, columns in sheets.items():
        with Image.open(out / f"{name}.png") as sheet:
            assert (sheet.width - 28) // 132 == columns, name
    with Image.open(out / "faces.png") as plot:
        assert plot.width > 500
    before = (out / "faces.json").read_bytes()
    again = run("faces", "--data", data, "--out", out, "--model", model, "--steps", 2)
    assert again.exit_code == 0, again.output
    assert "scoring" not in again.stdout  # finished work is not repeated
    assert (out / "faces.json").read_bytes() == before


def test_a_model_that_enlarges_nothing_is_refused(data, tmp_path):
    GatedPixelCNN(**TINY).save_pretrained(tmp_path / "prior")
    out = tmp_path / "out"
    result = run("faces", "--data", data, "--out", out, "--model", tmp_path / "prior")
    assert result.exit_code == 1
    assert "is a GatedPixelCNN, expected a PixelRecursiveSR with scale factor 4" in result.stderr
    assert not out.exists()


def test_one_face_is_enough(tmp_path, model):
    data = write_faces(tmp_path / "faces", 32, train=2, val=1)
    out = tmp_path / "out"
    result = run("faces", "--data", data, "--out", out, "--model", model, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert read_results(out, "faces")["methods"]["A + B, tau 1.0"]["excess"][1] == 0
    assert read_results(out, "faces")["command"].endswith("--out out --steps 1 --model other")


def test_a_folder_without_faces_is_refused(tmp_path):
    result = run("faces", "--data", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "does not hold train/ and val/" in result.stderr


def test_values_are_drawn_as_by_a_sum_whose_prior_is_flat():
    network = ConditioningNetwork(channels=4, blocks=1, scale_factor=2, levels=4).eval()
    prior = GatedPixelCNN(channels=3, layers=1, kernel_size=3, head_channels=3, levels=4)
    for weight in prior.head.parameters():
        torch.nn.init.zeros_(weight)
    low_res = torch.randint(4, (2, 3, 3, 2), dtype=torch.uint8)
    drawn = draw_independently(network, low_res, 3, seed=5)
    whole = PixelRecursiveSR(prior, network).eval()
    assert torch.equal(drawn, sample(whole, 3, low_res=low_res, seed=5))


def test_regression_is_the_squared_error_and_answers_the_nearest_level():
    model = Regression(channels=4, blocks=1, scale_factor=2, colors=1, levels=8)
    images = torch.randint(8, (3, 1, 4, 4), dtype=torch.uint8)
    mu = model(model.downsample(images))
    squares = (mu - images / 7).square().flatten(1).sum(1)
    constant = 16 * math.log(SIGMA * math.sqrt(2 * math.pi))
    torch.testing.assert_close(model.nll(images), squares / (2 * SIGMA**2) + constant)
    answer = model.answer(model.downsample(images))
    assert torch.equal(answer, (7 * mu).round().clamp(0, 7).byte())


def test_two_draws_of_one_input_are_compared_with_each_other():
    truth = torch.full((2, 3, 32, 32), 100, dtype=torch.uint8)
    answers = truth.repeat_interleave(2, 0)
    answers[1] += 51  # one fifth of the intensity range
    method = methods.Method("draws", lambda low_res: answers, draws=2)
    found = methods.measure(method, answers, truth, truth[..., ::4, ::4].contiguous())
    ceiling = metrics.psnr(truth, truth)[0].item()
    assert found["psnr_between_draws"] == pytest.approx((13.9794 + ceiling) / 2, abs=1e-3)
    assert found["psnr"] == pytest.approx((13.9794 + 3 * ceiling) / 4, abs=1e-3)
    missing = (13.9794 - ceiling) / 2  # of the first face; the second misses nothing
    assert found["excess"] == pytest.approx([missing / 2, abs(missing) / 2], abs=1e-3)
