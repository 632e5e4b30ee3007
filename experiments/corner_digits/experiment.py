"""Trains, draws and judges the four models."""

import dataclasses
import functools

from torch import Tensor

from pixelsr.data.quantize import from_levels, to_levels
from pixelsr.models import PixelModel
from pixelsr.training import TrainingConfig
from pixelsr.training.loss import bits_per_dimension
from pixelsr.utils.progress import track

from ..support.config import ExperimentConfig
from ..support.digits import Digits
from ..support.interleaved_training import Plan, read_log, train_in_turns, trained
from ..support.plots import check_installed, write_plot, write_sheet
from ..support.results import FINISHED, Results, begin, write_figures
from ..support.statistics import binomial_test, wilson
from .classifier import VERDICTS, Judge, count, examples
from .images import SCALE_FACTOR, corners, digits, load_corners, scaled, told_of
from .models import BATCH, TITLES, answers, make
from .report import NAME, draw_verdicts

COLUMNS = 12
"""Of the sheet of samples."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """The networks and the budget.

    Args:
        levels: of intensity.
        prior, conditioning: options of B and A, beside colors and levels.
        steps: of each model.
        turns: that they are cut into; after each the held-out images are measured.
        batch, lr: of the `TrainingConfig`.
        validation: held-out images.
        samples: drawn of each model.
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
"""The networks of "paper" are those of the paper's faces."""


def run(task: ExperimentConfig) -> bool:
    """Train, draw, judge; see `experiments.run`."""
    check_installed()
    images, scale = load_corners(task.images(NAME), task.seed), SCALES[task.scale]
    plan = _plan(task, scale, images)
    path = task.out / f"{NAME}.json"
    results = begin(task, NAME, _settings(task, scale, plan, images))
    if FINISHED in results:
        return True
    if "models" not in results:
        results["models"] = {name: _facts(_make(name, scale, task)) for name in TITLES}
    makers = {name: functools.partial(_make, name, scale, task) for name in TITLES}
    if not train_in_turns(makers, plan, task.out, task.stop):
        return False
    for name, facts in results["models"].items():
        facts["seconds"] = read_log(task.out / name)[-1]["seconds"]
    truth = to_levels(images.test[: results["settings"]["samples"]], scale.levels)
    drawn = _draw(results, task, plan, truth)
    if len(drawn) < len(TITLES):
        return False
    _judge(results, drawn, images, truth, task.seed)
    write_figures(path, results)
    write_plot(path.with_suffix(".png"), draw_verdicts(results))
    write_sheet(task.out / f"{NAME}-samples.png", _rows(drawn, truth, scale.levels))
    return True


def _plan(task: ExperimentConfig, scale: Scale, images: Digits) -> Plan:
    recipe = TrainingConfig(
        batch=scale.batch, lr=scale.lr, floor=0, ema=0.99, flip=False, seed=task.seed
    )
    validation = images.held_out[: scale.validation]
    return Plan.of(images.train, validation, recipe, task.steps or scale.steps, scale.turns)


def _settings(task: ExperimentConfig, scale: Scale, plan: Plan, images: Digits) -> Results:
    """All that the figures depend on, beside the machine and the models."""
    return {
        "scale": task.scale,
        **plan.settings(),
        "samples": min(scale.samples, len(images.test)),
        "size": list(images.test.shape[2:]),
        "levels": scale.levels,
        "checksum": images.checksum,
    }


def _make(name: str, scale: Scale, task: ExperimentConfig) -> PixelModel:
    shared = {"colors": 1, "levels": scale.levels}
    conditioning = {"scale_factor": SCALE_FACTOR} | scale.conditioning
    model = make(name, scale.prior | shared, conditioning | shared, task.seed)
    return model.to(task.device)


def _facts(model: PixelModel) -> Results:
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"model": model.describe(), "parameters": parameters}


def _draw(results: Results, task: ExperimentConfig, plan: Plan, truth: Tensor) -> dict[str, Tensor]:
    """What each model answers, told of true images; fewer models where `task.stop` says so.

    Bits per dimension are measured on the way, and how far answers are from what was told: the
    mean absolute difference of the small images, 1 being from black to white.
    """
    levels = results["settings"]["levels"]
    held_out = to_levels(plan.validation, levels)
    low_res = told_of(truth, levels)
    drawn: dict[str, Tensor] = {}
    for name, facts in results["models"].items():
        if task.stop():
            break
        model = trained(task.out / name, task.device)
        if name != "regression":
            bits = bits_per_dimension(model, held_out, BATCH)
            facts["bits_per_dimension"] = round(next(iter(bits.values())), 4)
        drawn[name] = images = answers(model, low_res, task.seed)
        if name != "prior":
            misfit = (told_of(images, levels).int() - low_res.int()).abs().float().mean()
            facts["misfit"] = round(misfit.item() / (levels - 1), 4)
    return drawn


def _judge(
    results: Results, drawn: dict[str, Tensor], data: Digits, truth: Tensor, seed: int
) -> None:
    """The verdicts on each model's images, and the judge's own errors."""
    levels = results["settings"]["levels"]
    known, held_out = (
        scaled(digits(to_levels(part, levels)), levels) for part in (data.train, data.held_out)
    )
    judge = Judge(known, held_out)
    results["thresholds"] = {
        name: round(value, 4) for name, value in dataclasses.asdict(judge.thresholds).items()
    }
    certain = {"real images": (VERDICTS[0], scaled(truth, levels))}
    certain |= examples(scaled(digits(truth), levels), seed)
    results["judge"] = {
        name: {"expected": verdict, "counts": count(judge.verdicts(images))}
        for name, (verdict, images) in track(list(certain.items()), "judging", True)
    }
    for name, images in drawn.items():
        verdicts = judge.verdicts(scaled(images, levels))
        first, second = (corner.flatten(1).sum(1) for corner in corners(images.int()))
        one = [verdict == VERDICTS[0] for verdict in verdicts]
        results["models"][name] |= shares(count(verdicts)) | split(
            sum(here and bool(more) for here, more in zip(one, first > second, strict=True)),
            sum(one),
        )


def shares(counts: dict[str, int]) -> Results:
    """Counts of the verdicts, and for each the interval of its share."""
    trials = sum(counts.values())
    intervals = {name: _rounded(wilson(found, trials)) for name, found in counts.items()}
    return {"counts": counts, "intervals": intervals}


def split(first: int, one: int) -> Results:
    """How many of the images of exactly one digit have it in the first corner."""
    if not one:
        return {"first_corner": None}
    p = float(f"{binomial_test(first, one):.3g}")
    test = {"interval": _rounded(wilson(first, one)), "p": p}
    return {"first_corner": {"count": first, "of": one} | test}


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(end, 4) for end in interval]


def _rows(drawn: dict[str, Tensor], truth: Tensor, levels: int) -> dict[str, Tensor]:
    """Of the sheet: inputs, answers of each model, true images, of the same digits."""
    low_res = told_of(truth[:COLUMNS], levels)
    inputs = low_res.repeat_interleave(SCALE_FACTOR, 2).repeat_interleave(SCALE_FACTOR, 3)
    rows = {"what the models are told (the PixelCNN is not)": inputs}
    rows |= {TITLES[name]: images[:COLUMNS] for name, images in drawn.items()}
    rows["true images"] = truth[:COLUMNS]
    return {name: from_levels(images, levels) for name, images in rows.items()}
