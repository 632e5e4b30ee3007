"""The training of the models, and the scores and sheets of all methods."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsr.data.downsample import area_average
from pixelsr.models import ConditioningNetwork, GatedPixelCNN, PixelModel, PixelRecursiveSR
from pixelsr.training import TrainingConfig

from ..support.baselines import Regression
from ..support.config import ExperimentConfig
from ..support.faces import SIDE, check_face_model, free_portraits, load_portraits
from ..support.image_split import ImageSplit
from ..support.interleaved_training import TrainingPlan, read_log, train_in_turns, trained
from ..support.plots import COLORS, canvas, check_installed, tidy, write_plot, write_sheet
from ..support.results import FINISHED, Results, begin, write_results
from . import methods
from .methods import Method

NAME = "faces"
SCALE_FACTOR = 4
SHOWN = 12
"""The number of faces on a sheet."""
TITLES = {
    "regression": "L2 regression",
    "conditioning": "A alone",
    "prior": "B alone",
    "sum": "A + B",
}
"""The models that are trained here, with their names in plots."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """The options of the networks and the training budget."""

    prior: dict[str, int]
    conditioning: dict[str, int]
    training_config: TrainingConfig
    steps: int
    turns: int


SCALES = {
    "small": Scale(
        {"channels": 48, "layers": 6, "kernel_size": 3, "head_channels": 128},
        {"blocks": 2},
        TrainingConfig(batch=8, lr=2e-3, floor=0, ema=0.995),
        2_000,
        5,
    ),
    "paper": Scale(
        {},
        {},
        TrainingConfig(batch=32, optimizer="rmsprop", lr=4e-4, schedule="halving"),
        200_000,
        40,
    ),
}


def run(config: ExperimentConfig) -> bool:
    """Train, draw and measure; see `experiments.run`."""
    check_installed()
    scale, portraits = SCALES[config.scale], load_portraits(config.images(NAME))
    other = _load(config)
    budget = scale.training_config, scale.steps, scale.turns
    plan = TrainingPlan.of(config, portraits, *budget)
    results = begin(config, NAME, _settings(config, scale, plan, portraits))
    if FINISHED in results:
        return True
    path = config.out / f"{NAME}.json"
    makers = {name: functools.partial(make, name, config) for name in TITLES}
    if not train_in_turns(makers, plan, config.out, config.stop):
        return False
    models = {name: trained(config.out / name, config.device) for name in TITLES} | {"other": other}
    results["models"] = {
        name: {
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "bits_per_dimension": methods.bits(model, portraits.test),
            "seconds": None if name == "other" else read_log(config.out / name)[-1]["seconds"],
        }
        for name, model in models.items()
    }
    ways = _methods(models, portraits.train, config)
    answers = _measure(ways, portraits.test, results, config)
    if len(answers) < len(ways):
        return False
    write_results(path, results)
    _draw_sheets(ways, answers, portraits.test, config)
    write_plot(path.with_suffix(".png"), draw_scores(results))
    return True


def _load(config: ExperimentConfig) -> PixelRecursiveSR:
    model = PixelModel.from_pretrained(config.model)
    if not isinstance(model, PixelRecursiveSR) or model.scale_factor != SCALE_FACTOR:
        raise ValueError(
            f"--model {config.model} is a {type(model).__name__}, expected a PixelRecursiveSR with "
            f"scale factor {SCALE_FACTOR}"
        )
    check_face_model(config.model, model)
    return model.to(config.device)


def _settings(
    config: ExperimentConfig, scale: Scale, plan: TrainingPlan, portraits: ImageSplit
) -> Results:
    return {
        "scale": config.scale,
        **plan.settings(),
        "prior": scale.prior,
        "conditioning": scale.conditioning,
        "images": len(portraits.test),
        "checksum": portraits.checksum,
        "model": config.model,
    }


def make(name: str, config: ExperimentConfig) -> PixelModel:
    """Return an untrained model."""
    scale = SCALES[config.scale]
    conditioning = {"scale_factor": SCALE_FACTOR} | scale.conditioning
    torch.manual_seed(config.seed)
    kinds: Mapping[str, Callable[[], PixelModel]] = {
        "regression": lambda: Regression(**conditioning),
        "conditioning": lambda: ConditioningNetwork(**conditioning),
        "prior": lambda: GatedPixelCNN(**scale.prior),
        "sum": lambda: PixelRecursiveSR(
            GatedPixelCNN(**scale.prior), ConditioningNetwork(**conditioning)
        ),
    }
    return kinds[name]().to(config.device)


def _methods(models: Mapping[str, Any], train: Tensor, config: ExperimentConfig) -> list[Method]:
    seed = config.seed
    return [
        *methods.baselines(train, SCALE_FACTOR),
        methods.regression(models["regression"]),
        methods.independent("conditioning", models["conditioning"], seed),
        methods.prior("prior", models["prior"], (SIDE, SIDE), seed),
        *methods.recursive(TITLES["sum"], "sum", models["sum"], seed),
        *methods.recursive(Path(config.model).name, "other", models["other"], seed),
    ]


def _measure(
    ways: Sequence[Method], truth: Tensor, results: Results, config: ExperimentConfig
) -> dict[str, Tensor]:
    """Score the methods until `config.stop` returns True; return the images of the scored ones."""
    low_res = area_average(truth, SCALE_FACTOR)
    answers: dict[str, Tensor] = {}
    results["methods"] = {}
    for way in ways:
        if config.stop():
            break
        print(f"scoring {way.title}", flush=True)
        answers[way.title] = way.enlarge(low_res)
        scores = methods.measure(way, answers[way.title], truth, low_res)
        results["methods"][way.title] = {"model": way.bits, **scores}
    return answers


def _draw_sheets(
    ways: Sequence[Method], answers: Mapping[str, Tensor], truth: Tensor, config: ExperimentConfig
) -> None:
    """Draw sheets of the same images by every method: faces with photos and without, portraits."""
    count = min(SHOWN, len(truth))
    chosen = torch.arange(count) * len(truth) // count
    columns = {way.title: answers[way.title][:: way.draws][chosen] for way in ways}
    names = [f"face {k}" for k in chosen.tolist()]
    photos = truth[chosen]
    _write(
        config.out / f"photos-{NAME}.png",
        names,
        _framed(columns, area_average(photos, SCALE_FACTOR), photos),
    )
    made = {way.title: columns[way.title] for way in ways if way.publishable}
    _write(config.out / f"{NAME}-draws.png", names, made)
    portraits = free_portraits()
    originals = torch.stack(list(portraits.values()))
    low_res = area_average(originals, SCALE_FACTOR)
    free = [way for way in ways if way.publishable or way.title == "bicubic"]
    columns = {way.title: way.enlarge(low_res)[:: way.draws] for way in free}
    _write(
        config.out / f"{NAME}-portraits.png", list(portraits), _framed(columns, low_res, originals)
    )


def _framed(columns: Mapping[str, Tensor], low_res: Tensor, originals: Tensor) -> dict[str, Tensor]:
    pixels = torch.nn.functional.interpolate(low_res, scale_factor=SCALE_FACTOR)
    return {"8x8 input": pixels, **columns, "photo": originals}


def _write(path: Path, names: Sequence[str], columns: Mapping[str, Tensor]) -> None:
    tiles = torch.stack(list(columns.values()), 1)
    rows = dict(zip(names, tiles, strict=True))
    write_sheet(path, rows, [title.replace(", tau", "") for title in columns], 4)


def draw_scores(results: Results) -> Any:
    """Draw consistency against pSNR: a point for each method, a line through its temperatures."""
    figure = canvas(8, 5)
    axes = figure.add_subplot()
    series: dict[str, list[Results]] = {}
    for title, scores in results["methods"].items():
        series.setdefault(title.split(",")[0], []).append(scores)
    for title, points in series.items():
        x, y = ([scores[key] for scores in points] for key in ("psnr", "consistency"))
        draws = "psnr_between_draws" in points[0]
        axes.plot(x, y, "o-", color=COLORS[0 if draws else 1], markersize=5)
        axes.annotate(title, (x[0], y[0]), (6, 4), textcoords="offset points", fontsize=9)
    axes.set_yscale("log")
    axes.margins(x=0.2)
    tidy(axes, "pSNR against the photo, dB", "consistency: squared error of the small image")
    axes.set_title(
        "Right and down is nearer to the photo; blue draws, orange has one answer",
        fontsize=10,
        loc="left",
    )
    return figure
