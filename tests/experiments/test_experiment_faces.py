"""`python -m experiments faces`: faces enlarged in every way."""

import dataclasses
import math

import pytest
import torch
from PIL import Image

from experiments import section
from experiments.faces import experiment as faces
from experiments.faces import methods
from experiments.support.independent_draws import draw_independently
from experiments.support.statistics import SIGMA, Regression
from pixelsr import ConditioningNetwork, GatedPixelCNN, PixelRecursiveSR, sample
from pixelsr.evaluation import metrics
from tests.support.experiment_cases import figures, run, write_faces

TINY = {"channels": 6, "layers": 1, "kernel_size": 3, "head_channels": 6}
WAYS = ["bicubic", "nearest neighbor", "L2 regression", "A alone", "B alone"]
TAUS = ["tau 1.0", "tau 1.1", "tau 1.2"]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Tiny networks, and the number of threads as it was."""
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
    found = figures(out, "faces")
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
    text = section("faces", found)
    assert "2 steps of 8 images" in text
    assert "All 3 held-out faces" in text
    assert all(f"| {title} |" in text for title in ways)
    assert "MS-SSIM is not defined" in text
    bits = {name: facts["bits_per_dimension"] for name, facts in found["models"].items()}
    beats = bits["sum"] < min(bits["prior"], bits["conditioning"])
    assert ("it beats both" if beats else "it does not beat both") in text
    before = (out / "faces.json").read_bytes()
    again = run("faces", "--data", data, "--out", out, "--model", model, "--steps", 2)
    assert again.exit_code == 0, again.output
    assert "scoring" not in again.stdout  # what is finished is not done again
    assert (out / "faces.json").read_bytes() == before


def test_the_outcome_follows_the_figures():
    between = {"psnr_between_draws": 20.0, "ssim_between_draws": 0.5, "excess": [1.0, 0.1]}
    scores = {"model": None, "psnr": 21.0, "ssim": 0.5, "ms_ssim": None, "consistency": 1e-4}
    drawn = scores | between | {"model": "sum", "psnr": 19.0, "consistency": 4e-4}
    bits = {"regression": None, "conditioning": 5.0, "prior": 4.0, "sum": 3.0, "other": 2.0}
    ways = dict.fromkeys(("bicubic", "L2 regression"), scores) | {"B alone": drawn}
    recipe = dataclasses.asdict(faces.SCALES["small"].recipe)
    settings = {"images": 3, "scale": "small", "model": "other", "recipe": recipe, "steps": 9}
    made = {
        "experiment": "faces",
        "command": "python -m experiments faces --steps 9",
        "settings": settings | {"training_images": 9},
        "machine": {"device": "a machine", "threads": 1, "torch": "2"},
        "models": {
            name: {"parameters": 9000, "bits_per_dimension": value, "seconds": 60}
            for name, value in bits.items()
        },
        "methods": ways | {"A + B, tau 1.0": drawn},
    }
    text = section("faces", made)
    assert "`python -m experiments faces --steps 9` does it again" in text
    assert "it beats both of its parts" in text
    assert "has 4.0 times the consistency error" in text
    assert "(root mean squares: 5.1 and 2.6 gray levels" in text
    assert "2.0 dB less in pSNR" in text
    assert "they vary too little (+1.00 ± 0.10 dB)" in text
    made["models"]["sum"]["bits_per_dimension"] = 4.5
    made["methods"]["A + B, tau 1.0"] = drawn | {"psnr": 21.5, "excess": [-1.5, 0.5]}
    text = section("faces", made)
    assert "it does not beat both of its parts" in text
    assert "0.5 dB more in pSNR" in text
    assert "they vary too much (-1.50 ± 0.50 dB)" in text
    made["methods"]["A + B, tau 1.0"] = drawn | {"excess": [0.1, 0.06]}
    assert "they vary as much as they should" in section("faces", made)


def test_a_model_that_enlarges_nothing_is_refused(data, tmp_path):
    GatedPixelCNN(**TINY).save_pretrained(tmp_path / "prior")
    out = tmp_path / "out"
    result = run("faces", "--data", data, "--out", out, "--model", tmp_path / "prior")
    assert result.exit_code == 1
    assert "is a GatedPixelCNN, expected a PixelRecursiveSR that magnifies 4" in result.stderr
    assert not out.exists()


def test_one_face_is_enough(tmp_path, model):
    data = write_faces(tmp_path / "faces", 32, train=2, val=1)
    out = tmp_path / "out"
    result = run("faces", "--data", data, "--out", out, "--model", model, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert figures(out, "faces")["methods"]["A + B, tau 1.0"]["excess"][1] == 0
    assert figures(out, "faces")["command"].endswith("--out out --steps 1 --model other")


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
    answers[1] += 51  # a fifth of the intensities
    method = methods.Method("draws", lambda low_res: answers, draws=2)
    found = methods.measure(method, answers, truth, truth[..., ::4, ::4].contiguous())
    ceiling = metrics.psnr(truth, truth)[0].item()
    assert found["psnr_between_draws"] == pytest.approx((13.9794 + ceiling) / 2, abs=1e-3)
    assert found["psnr"] == pytest.approx((13.9794 + 3 * ceiling) / 4, abs=1e-3)
    missing = (13.9794 - ceiling) / 2  # of the first face; none of the second
    assert found["excess"] == pytest.approx([missing / 2, abs(missing) / 2], abs=1e-3)
