"""Tests of `pixelsr.evaluation`: each metric against a direct computation, neighbors and levels."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import pixelsr
from pixelsr.data.binarize import binarize
from pixelsr.data.crop import from_tensor, to_tensor
from pixelsr.data.downsample import area_average
from pixelsr.data.quantize import from_levels, to_levels
from pixelsr.evaluation import evaluate, metrics
from pixelsr.evaluation.super_resolution import bicubic, nearest_neighbors
from tests.support.command_cases import tiny
from tests.support.evaluation_cases import model, noise
from tests.support.helpers import randomize


def direct_psnr(answers: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the PSNR in dB, averaged over images."""
    errors = (answers.numpy().astype(float) - truth.numpy().astype(float)) ** 2
    return float(np.mean(20 * np.log10(255 / np.sqrt(errors.mean(axis=(1, 2, 3))))))


def direct_consistency(answers: torch.Tensor, low_res: torch.Tensor, factor: int) -> float:
    smalls = area_average(answers, factor).numpy().astype(float)
    return float(np.mean(((smalls - low_res.numpy()) / 255) ** 2))


def direct_ssim(answer: np.ndarray, truth: np.ndarray) -> float:
    """Return the SSIM of one color, computed by its formula in each window."""
    offsets = np.arange(-5, 6)
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    a, t = (np.pad(plane / 255, 5, mode="reflect") for plane in (answer, truth))
    values = []
    for i, j in np.ndindex(answer.shape):
        x, y = a[i : i + 11, j : j + 11], t[i : i + 11, j : j + 11]
        mean_x, mean_y = (window * x).sum(), (window * y).sum()
        var_x, var_y = (window * x * x).sum() - mean_x**2, (window * y * y).sum() - mean_y**2
        both = (window * x * y).sum() - mean_x * mean_y
        means = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        values.append(means * (2 * both + 0.03**2) / (var_x + var_y + 0.03**2))
    return float(np.mean(values))


# --- the metrics ---


def test_psnr_is_that_of_each_image():
    answers, truth = noise(3), noise(3, seed=1)
    answers[0] = truth[0] ^ 1  # one image much closer than the others
    each = metrics.psnr(answers, truth)
    assert each.shape == (3,)
    assert each.mean().item() == pytest.approx(direct_psnr(answers, truth), rel=1e-7)


def test_psnr_of_the_image_itself_is_that_of_the_least_error_there_is():
    truth = noise(2, 32)
    answers = truth.clone()
    answers[1, 2, 3, 4] ^= 1
    same, least = metrics.psnr(answers, truth).tolist()
    assert same == pytest.approx(least, rel=1e-7)
    assert same == pytest.approx(20 * math.log10(255) + 10 * math.log10(3 * 32 * 32))


def test_ssim_is_its_formula():
    answers, truth = noise(2, 12, 1), noise(2, 12, 1, seed=1)
    answers[0, 0] = truth[0, 0].roll(1, 1)
    direct = [direct_ssim(a[0].numpy(), t[0].numpy()) for a, t in zip(answers, truth, strict=True)]
    assert metrics.ssim(answers, truth).tolist() == pytest.approx(direct, abs=1e-6)


def test_ms_ssim_is_defined_where_its_windows_fit():
    side = metrics.MS_SSIM_SIDE
    truth = noise(2, side, 1)
    answers = torch.stack([truth[0], noise(1, side, 1, seed=1)[0]])
    same, other = metrics.ms_ssim(answers, truth).tolist()
    assert same == pytest.approx(1)
    assert 0 <= other < 0.9
    with pytest.raises(ValueError, match="must be larger than 160"):
        metrics.ms_ssim(answers[..., :-1], truth[..., :-1])


def test_ssim_is_defined_from_its_window_on():
    assert metrics.ssim(noise(1, metrics.SSIM_SIDE), noise(1, metrics.SSIM_SIDE)).tolist() == [1]


def test_consistency_is_the_error_of_the_image_made_small():
    answers, low_res = noise(3), noise(3, 4, seed=1)
    each = metrics.consistency(answers, low_res, 256)
    assert each.shape == (3,)
    assert each.mean().item() == pytest.approx(direct_consistency(answers, low_res, 2))
    assert metrics.consistency(answers, area_average(answers, 2), 256).tolist() == [0, 0, 0]


# --- the baselines ---


@pytest.mark.parametrize("colors", [1, 2, 3])
def test_bicubic_is_pillows(colors):
    low_res = noise(2, 8, colors)
    large = bicubic(low_res, 4, 256)
    assert large.shape == (2, colors, 32, 32)
    for small, image in zip(low_res, large, strict=True):
        if colors == 3:
            resized = from_tensor(small).resize((32, 32), Image.Resampling.BICUBIC)
            assert torch.equal(image, to_tensor(resized))
        plane = Image.fromarray(small[-1].numpy()).resize((32, 32), Image.Resampling.BICUBIC)
        assert torch.equal(image[-1], torch.from_numpy(np.array(plane)))


def test_bicubic_of_an_image_that_is_not_square_keeps_its_shape():
    assert bicubic(noise(1)[..., :4], 2, 256).shape == (1, 3, 16, 8)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_the_nearest_neighbor_is_the_first_of_the_nearest_whatever_the_chunk(chunk):
    train = noise(20, seed=1)
    train[17] = train[5]  # a duplicate: the first of the two must be found
    wanted = torch.tensor([5, 0, 19, 8, 5])
    low_res = area_average(train[wanted], 2)
    low_res ^= 1  # near it, but not equal
    assert torch.equal(nearest_neighbors(low_res, train, 2, 256, chunk=chunk), wanted)


def test_the_nearest_neighbor_of_strangers_is_that_of_all_distances():
    train, low_res = noise(30, seed=1), noise(6, 4, seed=2)
    smalls = area_average(train, 2).numpy().astype(int)
    distances = ((smalls[None] - low_res.numpy()[:, None]) ** 2).sum(axis=(2, 3, 4))
    nearest = nearest_neighbors(low_res, train, 2, 256, chunk=4)
    assert nearest.tolist() == distances.argmin(1).tolist()


# --- the levels ---


def test_levels_are_equal_shares_of_the_intensities():
    images = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_levels(images, 256), images)
    assert torch.equal(from_levels(images, 256), images)
    assert to_levels(images, 4).bincount().tolist() == [64] * 4
    assert from_levels(torch.arange(4, dtype=torch.uint8), 4).tolist() == [0, 85, 170, 255]
    assert from_levels(torch.tensor([0, 1], dtype=torch.uint8), 2).tolist() == [0, 255]
    for count in range(2, 257):
        levels = torch.arange(count, dtype=torch.uint8)
        assert torch.equal(to_levels(from_levels(levels, count), count), levels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_levels(torch.zeros(1), 4), "must be uint8, got torch.float32"),
        (lambda: to_levels(noise(1), 257), "levels must be 2 to 256, got 257"),
        (lambda: from_levels(noise(1), 1), "levels must be 2 to 256, got 1"),
        (lambda: from_levels(torch.tensor([4], dtype=torch.uint8), 4), "must be below 4, got 4"),
    ],
    ids=["dtype", "many", "one", "value"],
)
def test_levels_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- the whole evaluation ---


def test_the_figures_are_those_of_a_direct_computation():
    images, train = noise(4, 16), noise(9, 16, seed=1)
    network = model()
    report = evaluate(network, images, train=train, samples=2, seed=3, temperature=0.7)
    low_res = area_average(images, 2)
    drawn = pixelsr.sample(network, n=2, low_res=low_res, seed=3, temperature=0.7)
    pairs = {
        "model": (drawn, images.repeat_interleave(2, 0)),
        "bicubic": (bicubic(low_res, 2, 256), images),
        "nearest_neighbor": (train[nearest_neighbors(low_res, train, 2, 256)], images),
    }
    assert list(report.enlargement.scores) == list(pairs)
    for name, (answers, truth) in pairs.items():
        scores = report.enlargement.scores[name]
        assert scores.psnr == pytest.approx(direct_psnr(answers, truth), rel=1e-7)
        assert scores.ssim == pytest.approx(metrics.ssim(answers, truth).mean().item())
        assert scores.ms_ssim is None
        small = area_average(truth, 2)
        assert scores.consistency == pytest.approx(direct_consistency(answers, small, 2))


def test_bits_per_dimension_are_those_of_all_images():
    images, network = noise(5), model()
    report = evaluate(network, images, max_images=2)
    low_res = area_average(images, 2)
    logits = {
        "sum": network(images, low_res),
        "conditioning": network.conditioning(low_res),
        "prior": network.prior(images),
    }
    assert report.bits_per_dimension.keys() == logits.keys()
    for name, some in logits.items():
        nll = torch.nn.functional.cross_entropy(some, images.long()).item()
        assert report.bits_per_dimension[name] == pytest.approx(nll / math.log(2))
    assert (report.images, report.enlargement.images) == (5, 2)


def test_what_is_enlarged_is_spread_evenly():
    images = noise(7)
    report, alone = (
        evaluate(model(), some, max_images=3).enlargement
        for some in (images, images[torch.tensor([0, 2, 4])])
    )
    assert report.scores == alone.scores


def test_no_figure_depends_on_the_batch():
    images, train = noise(5), noise(6, seed=1)
    small, large = (
        evaluate(model(), images, train=train, samples=2, batch=batch) for batch in (3, 32)
    )
    assert small.bits_per_dimension == pytest.approx(large.bits_per_dimension)
    for name, scores in small.enlargement.scores.items():
        others = large.enlargement.scores[name]
        assert dataclasses.astuple(scores) == pytest.approx(dataclasses.astuple(others))


def test_the_seed_decides_the_draws_and_nothing_else():
    first, again, other = (evaluate(model(), noise(2), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.enlargement.scores["model"] != other.enlargement.scores["model"]
    assert first.enlargement.scores["bicubic"] == other.enlargement.scores["bicubic"]
    assert first.bits_per_dimension == other.bits_per_dimension


def test_without_training_images_there_is_no_neighbor():
    report = evaluate(model(), noise(2))
    assert list(report.enlargement.scores) == ["model", "bicubic"]
    assert report.enlargement.train is None


def test_an_image_that_is_in_the_training_set_stays_finite():
    images = noise(2, 16)
    scores = evaluate(model(), images, train=images).enlargement.scores["nearest_neighbor"]
    assert scores.psnr == pytest.approx(20 * math.log10(255) + 10 * math.log10(3 * 16 * 16))
    assert (scores.ssim, scores.consistency) == (pytest.approx(1), 0)


def test_ssim_is_left_out_where_its_window_does_not_fit():
    assert evaluate(model(), noise(2, 8)).enlargement.scores["bicubic"].ssim is None


@pytest.mark.parametrize("kind", [pixelsr.GatedPixelCNN, pixelsr.PixelCNN])
def test_of_a_prior_alone_there_are_only_bits(kind):
    prior = randomize(kind(channels=4, layers=1, head_channels=8)).eval()
    report = evaluate(prior, noise(3, 7))  # no scale_factor: any size is allowed
    nll = torch.nn.functional.cross_entropy(prior(noise(3, 7)), noise(3, 7).long()).item()
    assert report.bits_per_dimension == {"model": pytest.approx(nll / math.log(2), rel=1e-5)}
    assert report.enlargement is None
    assert report.as_json()["enlargement"] is None


def test_a_model_of_two_levels_sees_and_is_compared_with_two():
    network, images, train = model(levels=2, colors=1), noise(4, colors=1), noise(5, colors=1)
    report = evaluate(network, images, train=train, binarize="threshold")
    black_or_white = from_levels(to_levels(images, 2), 2)
    assert sorted(black_or_white.unique().tolist()) == [0, 255]
    again = evaluate(network, black_or_white, train=from_levels(to_levels(train, 2), 2))
    assert report == dataclasses.replace(again, binarize="threshold")
    assert report.bits_per_dimension["sum"] < 3
    true = report.enlargement.scores["nearest_neighbor"]  # training images include these
    assert true.consistency == 0
    low_res = area_average(to_levels(images, 2), 2)
    drawn = from_levels(pixelsr.sample(network, low_res=low_res), 2)
    expected = direct_psnr(drawn, black_or_white)
    assert report.enlargement.scores["model"].psnr == pytest.approx(expected)
    errors = area_average(to_levels(drawn, 2), 2) != low_res  # each error is 0 or 1
    assert report.enlargement.scores["model"].consistency == errors.double().mean().item()


def test_a_model_of_two_levels_is_measured_on_what_is_chosen():
    network, images = model(levels=2, colors=1), noise(5, colors=1)
    train = torch.cat((noise(2, colors=1, seed=1), images))
    report = evaluate(network, images, train=images, binarize="bernoulli", max_images=2)
    drawn = binarize(images)
    expected = evaluate(network, drawn, train=drawn, max_images=2)
    assert report == dataclasses.replace(expected, binarize="bernoulli")
    other = evaluate(network, images, train=images, binarize="threshold", max_images=2)
    assert report.bits_per_dimension != other.bits_per_dimension
    for given, more in ((images, {}), (drawn, {"train": train})):
        with pytest.raises(ValueError, match=r"to threshold .* or to bernoulli"):
            evaluate(network, given, **more)


def test_a_choice_of_binarization_is_for_two_levels():
    with pytest.raises(ValueError, match="is for models of 2 levels, and this one has 256"):
        evaluate(model(), noise(2), binarize="threshold")
    with pytest.raises(ValueError, match=r"must be one of \['threshold', 'bernoulli'\], got 'x'"):
        evaluate(model(levels=2), noise(2), binarize="x")


def test_nats_per_image_are_those_of_all_values_of_an_image():
    network = randomize(pixelsr.PixelCNN(channels=4, layers=1, head_channels=8, levels=9)).eval()
    report, images = evaluate(network, noise(3, 7)), to_levels(noise(3, 7), 9)
    logits = network(images)
    nll = torch.nn.functional.cross_entropy(logits, images.long(), reduction="sum").item() / 3
    assert report.nats_per_image == {"model": pytest.approx(nll, rel=1e-5)}
    assert (report.levels, report.binarize) == (9, None)


def test_the_report_as_json_is_the_report():
    report = evaluate(model(), noise(2), train=noise(3, seed=1), samples=2, seed=5, temperature=0)
    values = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert values["network"] == model().describe()
    assert values["size"] == [8, 8]
    assert values["versions"] == {"pixelsr": pixelsr.__version__, "torch": torch.__version__}
    enlargement = values["enlargement"]
    assert enlargement["draws"] == {
        "samples": 2,
        "batch": 32,
        "seed": 5,
        "temperature": 0.0,
        "engine": report.enlargement.draws.engine,
    }
    assert enlargement["draws"]["engine"] != "auto"
    assert (enlargement["images"], enlargement["train"]) == (2, 3)
    psnr = report.enlargement.scores["bicubic"].psnr
    assert enlargement["scores"]["bicubic"]["psnr"] == psnr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": noise(1, 9)}, "sides that are multiples of 2, got 9x9"),
        ({"images": noise(1, colors=1)}, r"images must be uint8 \[N, 3, h, w\]"),
        ({"images": noise(1).float()}, "images must be uint8"),
        ({"train": noise(1, 16)}, r"train must be uint8 \[N, 3, 8, 8\]"),
        ({"samples": 0}, "samples must be a positive int, got 0"),
        ({"max_images": 0}, "max_images must be a positive int, got 0"),
        ({"batch": -1}, "batch must be a positive int, got -1"),
        ({"seed": -1}, "seed must be an int from 0"),
        ({"temperature": -1}, "temperature must be 0 or more and finite"),
        ({"engine": "steam"}, "engine must be auto or one of"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_refused_before_the_work(monkeypatch, options, message):
    monkeypatch.setattr(pixelsr.GatedPixelCNN, "forward", None)  # a call would raise TypeError
    with pytest.raises(ValueError, match=message):
        evaluate(tiny(), **{"images": noise(1), **options})


def test_a_conditioning_network_alone_is_measured_at_sizes_that_it_magnifies():
    network = tiny().conditioning
    assert evaluate(network, noise(2)).bits_per_dimension["model"] > 0
    with pytest.raises(ValueError, match="multiples of 2"):
        evaluate(network, noise(1, 9))


def test_a_prior_takes_no_training_images():
    with pytest.raises(ValueError, match="GatedPixelCNN enlarges nothing"):
        evaluate(tiny().prior, noise(1), train=noise(1))


def test_weights_that_are_not_finite_are_refused():
    prior = tiny().prior
    with torch.no_grad():
        next(prior.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(FloatingPointError, match="are nan, expected a finite number"):
        evaluate(prior, noise(1))


def test_a_model_in_training_is_measured_in_eval_mode_and_put_back(monkeypatch):
    modes = []

    def spy(network, **options):
        modes.append(network.training)
        return pixelsr.sample(network, **options)

    monkeypatch.setattr("pixelsr.evaluation.super_resolution.sample", spy)
    network = model().train()
    evaluate(network, noise(1))
    assert modes == [False]
    assert network.training
