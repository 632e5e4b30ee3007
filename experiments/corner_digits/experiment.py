"""The training of the four models, and the classification of what they draw."""

import dataclasses
import functools
from typing import Any

from torch import Tensor

from pixelsr.data.quantize import from_levels, to_levels
from pixelsr.models import PixelModel
from pixelsr.training import TrainingConfig
from pixelsr.training.loss import bits_per_dimension
from pixelsr.utils.progress import track

from ..support.binomial import binomial_test, wilson
from ..support.config import ExperimentConfig
from ..support.image_split import ImageSplit
from ..support.interleaved_training import TrainingPlan, read_log, train_in_turns, trained
from ..support.plots import COLORS, canvas, check_installed, tidy, write_plot, write_sheet
from ..support.results import FINISHED, Results, begin, write_results
from .classifier import CLASSES, DigitClassifier, count, examples
from .images import SCALE_FACTOR, ambiguous_input, corners, digits, load_corners, scaled
from .models import BATCH, TITLES, answers, make

NAME = "corner-digits"
COLUMNS = 12
"""The number of columns on the sheet of samples."""
CLASS_COLORS = (COLORS[2], "#999999", COLORS[3], COLORS[1], COLORS[0])
"""The colors of the classes in the plot."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """The networks and the budget.

    Args:
        levels: number of intensity levels.
        prior, conditioning: options of B and A, except colors and levels.
        steps: training steps of each model.
        turns: number of turns; each ends with a measurement of the held-out images.
        batch, lr: batch size and learning rate of the `TrainingConfig`.
        validation: number of held-out images.
        samples: number of images drawn from each model.
    """

    levels: int
    prior: dict[str, int]
    conditioning: dict[str, int]
    steps: int
    turns: int
    batch: int
    lr: float
    validation: int
    samples: int


SCALES = {
    "small": Scale(
        levels=8,
        prior={"channels": 24, "layers": 7, "head_channels": 64},
        conditioning={"blocks": 2},
        steps=3_000,
        turns=5,
        batch=8,
        lr=4e-3,
        validation=500,
        samples=500,
    ),
    "paper": Scale(
        levels=256,
        prior={},
        conditioning={},
        steps=100_000,
        turns=20,
        batch=32,
        lr=5e-4,
        validation=10_000,
        samples=10_000,
    ),
}
"""The scales; "paper" has the networks that the paper uses for faces."""


def run(config: ExperimentConfig) -> bool:
    """Train, draw and classify; see `experiments.run`."""
    check_installed()
    images, scale = load_corners(config.images(NAME), config.seed), SCALES[config.scale]
    training_config = TrainingConfig(batch=scale.batch, lr=scale.lr, floor=0, ema=0.99, flip=False)
    plan = TrainingPlan.of(
        config, images, training_config, scale.steps, scale.turns, scale.validation
    )
    path = config.out / f"{NAME}.json"
    results = begin(config, NAME, _settings(config, scale, plan, images))
    if FINISHED in results:
        return True
    if "models" not in results:
        results["models"] = {name: _facts(_make(name, scale, config)) for name in TITLES}
    makers = {name: functools.partial(_make, name, scale, config) for name in TITLES}
    if not train_in_turns(makers, plan, config.out, config.stop):
        return False
    for name, facts in results["models"].items():
        facts["seconds"] = read_log(config.out / name)[-1]["seconds"]
    truth = to_levels(images.test[: results["settings"]["samples"]], scale.levels)
    drawn = _draw(results, config, plan, truth)
    if len(drawn) < len(TITLES):
        return False
    _classify(results, drawn, images, truth, config.seed)
    write_results(path, results)
    write_plot(path.with_suffix(".png"), draw_counts(results))
    write_sheet(config.out / f"{NAME}-samples.png", _rows(drawn, truth, scale.levels))
    return True


def _settings(
    config: ExperimentConfig, scale: Scale, plan: TrainingPlan, images: ImageSplit
) -> Results:
    """Return all that the results depend on, except the machine and the models."""
    return {
        "scale": config.scale,
        **plan.settings(),
        "samples": min(scale.samples, len(images.test)),
        "size": list(images.test.shape[2:]),
        "levels": scale.levels,
        "checksum": images.checksum,
    }


def _make(name: str, scale: Scale, config: ExperimentConfig) -> PixelModel:
    shared = {"colors": 1, "levels": scale.levels}
    conditioning = {"scale_factor": SCALE_FACTOR} | scale.conditioning
    model = make(name, scale.prior | shared, conditioning | shared, config.seed)
    return model.to(config.device)


def _facts(model: PixelModel) -> Results:
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"model": model.describe(), "parameters": parameters}


def _draw(
    results: Results, config: ExperimentConfig, plan: TrainingPlan, truth: Tensor
) -> dict[str, Tensor]:
    """Return the images that each model makes; fewer models if `config.stop` returns True.

    The inputs are made of the true images. Also measure bits per dimension, and the misfit: the
    mean absolute difference between an input and the input made of the model's image, where 1 is
    the difference between black and white.
    """
    levels = results["settings"]["levels"]
    held_out = to_levels(plan.validation, levels)
    low_res = ambiguous_input(truth, levels)
    drawn: dict[str, Tensor] = {}
    for name, facts in results["models"].items():
        if config.stop():
            break
        model = trained(config.out / name, config.device)
        if name != "regression":
            bits = bits_per_dimension(model, held_out, BATCH)
            facts["bits_per_dimension"] = round(next(iter(bits.values())), 4)
        drawn[name] = images = answers(model, low_res, config.seed)
        if name != "prior":
            misfit = (ambiguous_input(images, levels).int() - low_res.int()).abs().float().mean()
            facts["misfit"] = round(misfit.item() / (levels - 1), 4)
    return drawn


def _classify(
    results: Results, drawn: dict[str, Tensor], data: ImageSplit, truth: Tensor, seed: int
) -> None:
    """Classify each model's images, and images of known class to measure the classifier."""
    levels = results["settings"]["levels"]
    known, held_out = (
        scaled(digits(to_levels(part, levels)), levels) for part in (data.train, data.held_out)
    )
    classifier = DigitClassifier(known, held_out)
    results["thresholds"] = {
        name: round(value, 4) for name, value in dataclasses.asdict(classifier.thresholds).items()
    }
    certain = {"real images": (CLASSES[0], scaled(truth, levels))}
    certain |= examples(scaled(digits(truth), levels), seed)
    results["classifier"] = {
        name: {"expected": expected, "counts": count(classifier.classify(images))}
        for name, (expected, images) in track(list(certain.items()), "classifying", True)
    }
    for name, images in drawn.items():
        classes = classifier.classify(scaled(images, levels))
        first, second = (corner.flatten(1).sum(1) for corner in corners(images.int()))
        one = [found == CLASSES[0] for found in classes]
        results["models"][name] |= shares(count(classes)) | split(
            sum(here and bool(more) for here, more in zip(one, first > second, strict=True)),
            sum(one),
        )


def shares(counts: dict[str, int]) -> Results:
    """Return the count of each class, and the confidence interval of its share."""
    trials = sum(counts.values())
    intervals = {name: _rounded(wilson(found, trials)) for name, found in counts.items()}
    return {"counts": counts, "intervals": intervals}


def split(first: int, one: int) -> Results:
    """Return the number of images with exactly one digit that have it in the first corner."""
    if not one:
        return {"first_corner": None}
    p = float(f"{binomial_test(first, one):.3g}")
    test = {"interval": _rounded(wilson(first, one)), "p": p}
    return {"first_corner": {"count": first, "of": one} | test}


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(end, 4) for end in interval]


def _rows(drawn: dict[str, Tensor], truth: Tensor, levels: int) -> dict[str, Tensor]:
    """Return the rows of the sheet: inputs, images of each model, and true images."""
    low_res = ambiguous_input(truth[:COLUMNS], levels)
    inputs = low_res.repeat_interleave(SCALE_FACTOR, 2).repeat_interleave(SCALE_FACTOR, 3)
    rows = {"what the models are told (the PixelCNN is not)": inputs}
    rows |= {TITLES[name]: images[:COLUMNS] for name, images in drawn.items()}
    rows["true images"] = truth[:COLUMNS]
    return {name: from_levels(images, levels) for name, images in rows.items()}


def draw_counts(results: Results) -> Any:
    """Draw a bar for each model, split by the classes of its images."""
    bars = {TITLES[name]: facts["counts"] for name, facts in results["models"].items()}
    bars["real images"] = results["classifier"]["real images"]["counts"]
    samples = results["settings"]["samples"]
    figure = canvas(7, 2.9)
    axes = figure.subplots()
    left = [0] * len(bars)
    for name, color in zip(CLASSES, CLASS_COLORS, strict=True):
        counts = [bar[name] for bar in bars.values()]
        axes.barh(list(bars), counts, 0.7, left, color=color, label=name)
        for row, number in enumerate(counts):
            if number >= samples / 20:
                middle = left[row] + number / 2
                axes.text(middle, row, f"{number:,}", color="white", ha="center", va="center")
        left = [start + number for start, number in zip(left, counts, strict=True)]
    tidy(axes, f"of {samples:,} images", "")
    axes.set_xlim(0, samples)
    axes.invert_yaxis()
    figure.legend(frameon=False, fontsize=9, ncols=len(CLASSES), loc="outside upper center")
    return figure
