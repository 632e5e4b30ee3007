"""Tests of the experiment `completion`: hidden parts, scores, and the whole run."""

import copy
import dataclasses
import itertools

import pytest
import torch
from PIL import Image

from experiments import ExperimentConfig
from experiments.completion import experiment as completion
from experiments.completion import sheets
from experiments.completion.parts import (
    HOLE,
    LOWER,
    UPPER,
    WHOLE,
    complete,
    hidden_pixels,
    lower_half_bits,
    mean_of,
    score,
    small_images,
)
from experiments.support import digits, faces
from pixelsr.models import ConditioningNetwork, GatedPixelCNN, PixelRecursiveSR
from tests.support.experiment_cases import read_results, write_faces, write_mnist
from tests.support.experiment_cases import run as run_experiment
from tests.support.helpers import randomize

SIDE = 8
SMALL = {"channels": 4, "layers": 1, "kernel_size": 3, "head_channels": 8}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Make the images 8x8 and few, and restore the number of threads."""
    monkeypatch.setattr(digits, "SIDE", SIDE)
    monkeypatch.setattr(completion, "SIDE", SIDE)
    monkeypatch.setattr(faces, "SIDE", SIDE)
    small = completion.SCALES["small"]
    tiny = {
        "digits": dataclasses.replace(small["digits"], options=SMALL | {"levels": 4}, steps=3),
        "faces": dataclasses.replace(small["faces"], options=SMALL, steps=3),
    }
    monkeypatch.setitem(completion.SCALES, "small", tiny)
    sizes = {"DRAWN": 3, "SCORED": 3, "ROUNDS": 2, "BATCH": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(completion, name, value)
    for name, value in {"SHOWN": 2, "SHOWN_HOLES": 1}.items():
        monkeypatch.setattr(sheets, name, value)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def prior(**options):
    torch.manual_seed(0)
    return randomize(GatedPixelCNN(**(SMALL | options))).eval()


def both(**options):
    options = {"channels": 4, "blocks": 1, "scale_factor": 4} | options
    levels = options.get("levels", 256)
    return randomize(PixelRecursiveSR(prior(levels=levels), ConditioningNetwork(**options))).eval()


@pytest.fixture
def data(tmp_path):
    write_mnist(tmp_path / "data" / "mnist", SIDE)
    write_faces(tmp_path / "data" / "faces", SIDE)
    return tmp_path / "data"


@pytest.fixture
def folder(tmp_path):
    both().save_pretrained(tmp_path / "both")
    return tmp_path / "both"


def run(*arguments):
    return run_experiment("completion", *arguments)


def timeless(results):
    """Return the results without those that depend on time."""
    results = copy.deepcopy(results)
    results.pop("seconds")
    for way in results["ways"].values():
        for side in way["times"]["sides"].values():
            assert side.pop("time") > 0
            assert len(side.pop("seconds")) == 2
    return results


@pytest.mark.slow
def test_an_interrupted_experiment_continues_to_the_same_results(data, folder, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = run("--data", data, "--model", folder, "--out", whole)
    assert result.exit_code == 0, result.output
    for stop_at in (1, 6):  # during the training; after it
        asked = itertools.count(1)
        config = ExperimentConfig(
            broken, data, model=str(folder), stop=lambda asked=asked, at=stop_at: next(asked) > at
        )
        assert not completion.run(config)
        assert "ways" not in read_results(broken, "completion")
    result = run("--data", data, "--model", folder, "--out", broken)
    assert result.exit_code == 0, result.output
    found = [read_results(out, "completion") for out in (whole, broken)]
    assert timeless(found[0])["ways"] == timeless(found[1])["ways"]
    assert list(found[0]["ways"]) == ["digits", "faces", "model"]
    for way in found[0]["ways"].values():
        assert set(way["parts"]) == {LOWER, HOLE}
        assert not any(part["known_values_changed"] for part in way["parts"].values())
    heights = {}
    files = ["completion-digits", "completion-portraits", "completion-holes", "photos-completion"]
    with Image.open(whole / "completion.png") as plot:
        assert plot.width > 500
    for name in files:
        with Image.open(whole / f"{name}.png") as sheet:
            assert sheet.width > 10 * 3 * SIDE
            heights[name] = sheet.height
        same = [(out / f"{name}.png").read_bytes() for out in (whole, broken)]
        assert same[0] == same[1]
    rows = [(height - heights[files[0]]) / (3 * SIDE + 26) for height in heights.values()]
    assert rows == [0, 2, 3, 2]  # beyond two digits: two ways of two faces, a digit with both
    result = run("--data", data, "--model", folder, "--out", broken, "--seed", 1)
    assert result.exit_code == 1
    assert (
        "is of another run: digits config seed was 0, now it is 1; choose another" in result.stderr
    )


def test_a_prior_completes_faces_too(data, tmp_path):
    prior().save_pretrained(tmp_path / "prior")
    out = tmp_path / "out"
    result = run("--data", data, "--model", tmp_path / "prior", "--out", out)
    assert result.exit_code == 0, result.output
    results = read_results(out, "completion")
    assert list(results["ways"]) == ["digits", "faces", "model"]
    assert results["ways"]["model"]["model"]["class"] == "GatedPixelCNN"


class Trained(GatedPixelCNN):
    """A model that claims to be trained on 7x7 images."""

    def save_pretrained(self, folder):
        super().save_pretrained(folder)
        (folder / "training.toml").write_text("size = 7")


def test_too_few_images_are_refused(folder, tmp_path):
    write_mnist(tmp_path / "data" / "mnist", SIDE)
    write_faces(tmp_path / "data" / "faces", SIDE, val=1)
    result = run("--data", tmp_path / "data", "--model", folder, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "holds 8 test digits and 1 faces in val/, expected at least 2 of each" in result.stderr


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: prior(colors=1), "draws 256 levels of 1 colors, expected 256 levels of 3"),
        (lambda: prior(levels=8), "draws 8 levels of 3 colors"),
        (lambda: both(scale_factor=16), "not fit the faces: the model has scale factor 16"),
        (lambda: both().conditioning, "is a ConditioningNetwork that draws from a small image"),
        (lambda: Trained(**SMALL), "was trained on 7x7 images; the faces are 8x8"),
    ],
    ids=["colors", "levels", "size", "kind", "trained size"],
)
def test_a_model_that_does_not_fit_is_one_sentence(data, tmp_path, model, message):
    model().save_pretrained(tmp_path / "model")
    result = run("--data", data, "--model", tmp_path / "model", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_hole_is_no_rectangle_and_the_halves_make_the_whole():
    for height, width in ((28, 28), (32, 32), (SIDE, SIDE)):
        hole = hidden_pixels(HOLE, height, width)
        rows, cols = hole.any(1).nonzero(), hole.any(0).nonzero()
        box = hole[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1]
        assert 0 < hole.double().mean() < 0.5
        assert not box.all()
    halves = [hidden_pixels(part, 7, 5) for part in (LOWER, UPPER)]
    assert (halves[0] ^ halves[1]).all()
    assert halves[1][:3].all()
    assert halves[0][3:].all()
    assert hidden_pixels(WHOLE, 7, 5).all()


def test_nothing_of_the_hole_is_in_its_small_image():
    model = both(levels=8)
    images = torch.randint(8, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    for part, leaks in ((HOLE, False), (LOWER, True)):
        others = torch.where(hidden_pixels(part, SIDE, SIDE), 7 - images, images)
        small = [small_images(model, given, part) for given in (images, others)]
        assert torch.equal(*small) != leaks
    assert small_images(model.prior, images, HOLE) is None


@pytest.mark.parametrize("make", [prior, both])
@pytest.mark.parametrize("part", [LOWER, UPPER, HOLE])
def test_known_pixels_are_untouched_and_the_rest_is_drawn(make, part):
    torch.manual_seed(1)
    images = torch.randint(8, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    drawn = complete(make(levels=8), images, part, 4)
    hidden = hidden_pixels(part, SIDE, SIDE)
    kept = images[:, None].expand_as(drawn)
    assert torch.equal(drawn[..., ~hidden], kept[..., ~hidden])
    assert (drawn[..., hidden] != kept[..., hidden]).double().mean() > 0.5
    assert torch.equal(drawn, complete(make(levels=8), images, part, 4, batch=5))
    assert score(drawn, images, part, 8)["known_values_changed"] == 0
    drawn[:, 0] = (drawn[:, 0] + 1) % 8
    assert score(drawn, images, part, 8)["known_values_changed"] == 3 * 3 * int((~hidden).sum())


def test_distances_are_those_of_all_pairs():
    torch.manual_seed(0)
    drawn = torch.randint(8, (5, 4, 3, SIDE, SIDE), dtype=torch.uint8)
    images = torch.randint(8, (5, 3, SIDE, SIDE), dtype=torch.uint8)
    hidden = hidden_pixels(HOLE, SIDE, SIDE)

    def squares(one, other):
        return ((one.double() - other.double())[..., hidden] / 7).square().mean()

    pairs = itertools.combinations(range(4), 2)
    apart = torch.stack([squares(drawn[:, i], drawn[:, j]) for i, j in pairs]).mean().sqrt()
    off = torch.stack([squares(drawn[:, i], images) for i in range(4)]).mean().sqrt()
    found = score(drawn, images, HOLE, 8)
    assert found["apart"] == pytest.approx(apart.item())
    assert found["from_truth"] == pytest.approx(off.item())
    assert found["ratio"] == pytest.approx((apart / off).item())


def test_samples_that_are_like_the_truth_are_as_far_from_it_as_from_one_another():
    torch.manual_seed(0)
    images = torch.randint(8, (200, 9, 1, SIDE, SIDE), dtype=torch.uint8)
    found = score(images[:, 1:], images[:, 0], LOWER, 8)
    assert abs(found["ratio"] - 1) < 3 * found["standard_error"] < 0.05


def test_the_lower_half_costs_what_the_whole_costs_beyond_the_upper_half():
    model = prior(levels=8)
    images = torch.randint(8, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    upper = images[:, :, : SIDE // 2]
    nll = (model.nll(images) - model.nll(upper)).double()
    bits = nll / torch.tensor(2.0).log() / (images[0].numel() / 2)
    found = lower_half_bits(model, images, 2)
    torch.testing.assert_close(found, bits, rtol=1e-5, atol=0)
    mean = mean_of(found)
    assert mean["mean"] == pytest.approx(bits.mean().item(), rel=1e-5)
    assert mean["standard_error"] == pytest.approx((bits.std() / 3**0.5).item(), rel=1e-4)


def test_the_paper_scale_has_the_sizes_of_the_paper(tmp_path):
    for name, colors, steps in (("digits", 1, 100_000), ("faces", 3, 200_000)):
        made = completion.make_prior(name, ExperimentConfig(tmp_path, scale="paper")).config
        assert made == GatedPixelCNN.Config(colors=colors)
        budget = completion.SCALES["paper"][name]
        assert (budget.steps, budget.training_config.batch) == (steps, 32)
