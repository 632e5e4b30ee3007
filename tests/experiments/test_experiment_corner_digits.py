"""Tests of the experiment `corner-digits`: images, classifier, statistics, and the whole run."""

import dataclasses

import pytest
import torch
from PIL import Image

from experiments.corner_digits import experiment as corner_digits
from experiments.corner_digits.classifier import CLASSES, DigitClassifier, count, examples
from experiments.corner_digits.images import ambiguous_input, corners, load_corners, place
from experiments.corner_digits.models import CornerNetwork, answers, make
from experiments.support import digits
from experiments.support.binomial import binomial_test, wilson
from tests.support.experiment_cases import read_results, write_mnist
from tests.support.experiment_cases import run as run_experiment

SIDE = 8
TINY = {"channels": 4, "layers": 1, "kernel_size": 3, "first_kernel_size": 3, "head_channels": 4}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Write random 8x8 images as the digits."""
    monkeypatch.setattr(digits, "SIDE", SIDE)
    return write_mnist(tmp_path / "digits", SIDE)


@pytest.fixture
def threads():
    """Restore the number of threads after the test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def strokes(count, seed=0):
    """Return thick crosses at random positions, intensities 0 to 1, ``[count, 1, 14, 14]``."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 1, 14, 14)
    for image, (row, column) in zip(
        images, torch.randint(3, 10, (count, 2), generator=generator).tolist(), strict=True
    ):
        image[0, row : row + 2, 2:12] = 1
        image[0, 2:12, column : column + 2] = 1
    return images


@pytest.fixture(scope="module")
def classifier():
    return DigitClassifier(strokes(400), strokes(100, seed=1))


@pytest.mark.parametrize(
    ("successes", "trials", "p"),
    [(9, 10, 22 / 1024), (1, 10, 22 / 1024), (5, 10, 1), (5, 11, 1), (0, 1, 1), (0, 3, 0.25)],
)
def test_the_exact_binomial_test_counts_every_outcome_that_is_not_likelier(successes, trials, p):
    assert binomial_test(successes, trials) == p


def test_the_binomial_test_of_many_trials_is_near_the_normal_one():
    assert binomial_test(270, 500) == pytest.approx(0.0810, abs=1e-4)
    assert binomial_test(5_000, 10_000) == 1
    assert 0 < binomial_test(4_000, 10_000) < 1e-80


def test_wilsons_interval_is_the_known_one():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert wilson(20, 20) == pytest.approx((0.8389, 1), abs=1e-4)


@pytest.mark.parametrize("function", [wilson, binomial_test])
@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(function, successes, trials):
    with pytest.raises(ValueError, match=f"got {successes} of {trials}"):
        function(successes, trials)


def test_each_image_has_its_digit_in_one_corner_that_the_seed_chose(data):
    images = load_corners(data, seed=3)
    assert [len(part) for part in (images.train, images.held_out, images.test)] == [20, 4, 8]
    first, second = (part.flatten(1).any(1) for part in corners(images.train))
    assert (first ^ second).all()
    assert first.any()
    assert second.any()
    assert load_corners(data, seed=3).checksum == images.checksum
    assert load_corners(data, seed=4).checksum != images.checksum


def test_the_input_tells_the_digit_and_not_the_corner():
    small = torch.randint(8, (5, 1, 4, 4), dtype=torch.uint8)
    small[:, 0, :2, :2] = torch.arange(5, dtype=torch.uint8)[:, None, None]  # no two are equal
    black = torch.zeros_like(small)
    for name in ("regression", "independent", "sum"):
        model = make(name, TINY | {"colors": 1, "levels": 8}, conditioning(), 0)
        told = model.downsample(place(small, black))
        assert torch.equal(told, model.downsample(place(black, small)))
        assert told.shape == (5, 1, 4, 4)
        assert len(told.unique(dim=0)) == 5
    assert int(ambiguous_input(place(small, small), 8).max()) <= 7  # two digits are too much ink


def conditioning():
    return {"channels": 4, "blocks": 1, "scale_factor": 2, "colors": 1, "levels": 8}


def test_the_classifier_knows_the_class_of_its_examples(classifier):
    real = strokes(50, seed=2)
    black = torch.zeros_like(real)
    wrong = torch.ones_like(real)
    speck, elsewhere = black.clone(), place(real, black)
    speck[:, :, 5, 5:9] = 1
    elsewhere[:, :, :4, -1] = 1
    known = examples(real, 0) | {
        "first": ("exactly one", place(real, black)),
        "second": ("exactly one", place(black, real)),
        "a speck": ("misshapen", place(speck, black)),
        "a white square": ("misshapen", place(black, wrong)),
        "a digit and a white square": ("blend", place(real, wrong)),
        "ink outside": ("blend", elsewhere),
    }
    for name, (expected, images) in known.items():
        assert count(classifier.classify(images))[expected] >= 49, name
    assert {expected for expected, _ in known.values()} == set(CLASSES)


def test_the_classifier_finds_that_a_faint_digit_is_no_digit():
    known = strokes(4)
    classifier = DigitClassifier(
        known, strokes(100, seed=1)
    )  # 100 crosses are far from so few known ones
    assert classifier.thresholds.farthest > 0.7
    assert classifier.is_digit(known).all()
    assert not classifier.is_digit(0.6 * known).any()


def test_independent_pixels_are_drawn_from_their_own_distributions():
    model = make("independent", {}, conditioning(), 0).eval()
    assert isinstance(model, CornerNetwork)
    torch.nn.init.normal_(model.out.weight, std=20)  # makes no two pixels alike
    one = torch.randint(8, (1, 1, 2, 2), dtype=torch.uint8)
    low_res = one.expand(4000, 1, 2, 2)
    drawn = answers(model, low_res, seed=1)
    assert drawn.shape == (4000, 1, 4, 4)
    shares = torch.stack([(drawn == level).double().mean(0) for level in range(8)])
    with torch.no_grad():
        expected = model(one)[0].softmax(0).double()
    assert (shares - expected).abs().max() < 0.04
    assert torch.equal(drawn[:150], answers(model, low_res[:150], seed=1))
    centered = drawn.double().flatten(1)
    centered -= centered.mean(0)
    correlation = torch.corrcoef(centered.T) - torch.eye(16)
    assert correlation.abs().max() < 0.08


def test_the_experiment_goes_from_data_to_results(data, tmp_path, monkeypatch, threads):
    small = dataclasses.replace(
        corner_digits.SCALES["small"],
        prior=TINY,
        conditioning={"channels": 4, "blocks": 1},
        turns=2,
    )
    monkeypatch.setitem(corner_digits.SCALES, "small", small)
    out = tmp_path / "out"
    result = run_experiment("corner-digits", "--data", data, "--out", out, "--steps", 2)
    assert result.exit_code == 0, result.output
    results = read_results(out, "corner-digits")
    for facts in results["models"].values():
        assert sum(facts["counts"].values()) == 8
        assert facts["parameters"] > 0
    assert [name for name, facts in results["models"].items() if "misfit" not in facts] == ["prior"]
    assert "bits_per_dimension" not in results["models"]["regression"]
    assert results["classifier"]["black"]["counts"]["none"] == 8
    for name, width in (("corner-digits", 800), ("corner-digits-samples", 8 * 2 * SIDE)):
        with Image.open(out / f"{name}.png") as image:
            assert image.width > width
    again = run_experiment("corner-digits", "--data", data, "--out", out, "--steps", 2)
    assert again.exit_code == 0, again.output
    assert read_results(out, "corner-digits") == results


def test_the_paper_scale_has_the_papers_networks():
    scale = corner_digits.SCALES["paper"]
    shared = {"colors": 1, "levels": scale.levels}
    model = make("sum", scale.prior | shared, {"scale_factor": 2} | scale.conditioning | shared, 0)
    prior, conditioning = model.config.prior, model.config.conditioning
    assert (prior["layers"], prior["channels"], prior["head_channels"]) == (20, 64, 1024)
    assert (conditioning["blocks"], conditioning["channels"]) == (6, 32)
