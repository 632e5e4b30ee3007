"""Trains, draws and scores."""

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

from ..support.config import ExperimentConfig
from ..support.faces import SIDE, Portraits, check_trained_size, free_portraits, load_portraits
from ..support.interleaved_training import Plan, read_log, train_in_turns, trained
from ..support.plots import check_installed, write_plot, write_sheet
from ..support.results import FINISHED, Results, begin, write_figures
from ..support.statistics import Regression
from . import methods
from .methods import Method
from .report import NAME, draw_scores

SCALE_FACTOR = 4
SHOWN = 12
TITLES = {
    "regression": "L2 regression",
    "conditioning": "A alone",
    "prior": "B alone",
    "sum": "A + B",
}
"""What is trained here."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes and budget."""

    prior: dict[str, int]
    conditioning: dict[str, int]
    recipe: TrainingConfig
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


def run(task: ExperimentConfig) -> bool:
    """Train, draw, measure; see `experiments.run`."""
    check_installed()
    scale, portraits = SCALES[task.scale], load_portraits(task.images(NAME))
    other = _load(task)
    plan = _plan(task, scale, portraits)
    results = begin(task, NAME, _settings(task, scale, plan, portraits))
    if FINISHED in results:
        return True
    path = task.out / f"{NAME}.json"
    makers = {name: functools.partial(make, name, task) for name in TITLES}
    if not train_in_turns(makers, plan, task.out, task.stop):
        return False
    models = {name: trained(task.out / name, task.device) for name in TITLES} | {"other": other}
    results["models"] = {
        name: {
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "bits_per_dimension": methods.bits(model, portraits.val),
            "seconds": None if name == "other" else read_log(task.out / name)[-1]["seconds"],
        }
        for name, model in models.items()
    }
    ways = _methods(models, portraits.train, task)
    answers = _measure(ways, portraits.val, results, task)
    if len(answers) < len(ways):
        return False
    write_figures(path, results)
    _draw_sheets(ways, answers, portraits.val, task)
    write_plot(path.with_suffix(".png"), draw_scores(results))
    return True


def _load(task: ExperimentConfig) -> PixelRecursiveSR:
    model = PixelModel.from_pretrained(task.model)
    if not isinstance(model, PixelRecursiveSR) or model.scale_factor != SCALE_FACTOR:
        raise ValueError(
            f"--model {task.model} is a {type(model).__name__}, expected a PixelRecursiveSR that "
            f"magnifies {SCALE_FACTOR} times"
        )
    if (model.colors, model.levels) != (3, 256):
        raise ValueError(
            f"--model {task.model} has {model.colors} colors of {model.levels} levels, expected "
            "3 of 256"
        )
    check_trained_size(task.model)
    return model.to(task.device)


def _plan(task: ExperimentConfig, scale: Scale, portraits: Portraits) -> Plan:
    recipe = dataclasses.replace(scale.recipe, seed=task.seed)
    steps = task.steps or scale.steps
    return Plan.of(portraits.train, portraits.held_out, recipe, steps, scale.turns)


def _settings(task: ExperimentConfig, scale: Scale, plan: Plan, portraits: Portraits) -> Results:
    return {
        "scale": task.scale,
        **plan.settings(),
        "prior": scale.prior,
        "conditioning": scale.conditioning,
        "images": len(portraits.val),
        "checksum": portraits.checksum,
        "model": task.model,
    }


def make(name: str, task: ExperimentConfig) -> PixelModel:
    """An untrained model."""
    scale = SCALES[task.scale]
    conditioning = {"scale_factor": SCALE_FACTOR} | scale.conditioning
    torch.manual_seed(task.seed)
    kinds: Mapping[str, Callable[[], PixelModel]] = {
        "regression": lambda: Regression(**conditioning),
        "conditioning": lambda: ConditioningNetwork(**conditioning),
        "prior": lambda: GatedPixelCNN(**scale.prior),
        "sum": lambda: PixelRecursiveSR(
            GatedPixelCNN(**scale.prior), ConditioningNetwork(**conditioning)
        ),
    }
    return kinds[name]().to(task.device)


def _methods(models: Mapping[str, Any], train: Tensor, task: ExperimentConfig) -> list[Method]:
    seed = task.seed
    return [
        *methods.baselines(train, SCALE_FACTOR),
        methods.regression(models["regression"]),
        methods.independent("conditioning", models["conditioning"], seed),
        methods.prior("prior", models["prior"], (SIDE, SIDE), seed),
        *methods.recursive(TITLES["sum"], "sum", models["sum"], seed),
        *methods.recursive(Path(task.model).name, "other", models["other"], seed),
    ]


def _measure(
    ways: Sequence[Method], truth: Tensor, results: Results, task: ExperimentConfig
) -> dict[str, Tensor]:
    """Score every method; the answers of those that were, before `task.stop`."""
    low_res = area_average(truth, SCALE_FACTOR)
    answers: dict[str, Tensor] = {}
    results["methods"] = {}
    for way in ways:
        if task.stop():
            break
        print(f"scoring {way.title}", flush=True)
        answers[way.title] = way.enlarge(low_res)
        scores = methods.measure(way, answers[way.title], truth, low_res)
        results["methods"][way.title] = {"model": way.bits, **scores}
    return answers


def _draw_sheets(
    ways: Sequence[Method], answers: Mapping[str, Tensor], truth: Tensor, task: ExperimentConfig
) -> None:
    """The same faces through every method: with the photos, and without, to be shown anywhere."""
    count = min(SHOWN, len(truth))
    chosen = torch.arange(count) * len(truth) // count
    columns = {way.title: answers[way.title][:: way.draws][chosen] for way in ways}
    names = [f"face {k}" for k in chosen.tolist()]
    photos = truth[chosen]
    _write(
        task.out / f"photos-{NAME}.png",
        names,
        _framed(columns, area_average(photos, SCALE_FACTOR), photos),
    )
    made = {way.title: columns[way.title] for way in ways if way.publishable}
    _write(task.out / f"{NAME}-draws.png", names, made)
    portraits = free_portraits()
    originals = torch.stack(list(portraits.values()))
    low_res = area_average(originals, SCALE_FACTOR)
    free = [way for way in ways if way.publishable or way.title == "bicubic"]
    columns = {way.title: way.enlarge(low_res)[:: way.draws] for way in free}
    _write(
        task.out / f"{NAME}-portraits.png", list(portraits), _framed(columns, low_res, originals)
    )


def _framed(columns: Mapping[str, Tensor], low_res: Tensor, originals: Tensor) -> dict[str, Tensor]:
    pixels = torch.nn.functional.interpolate(low_res, scale_factor=SCALE_FACTOR)
    return {"8x8 input": pixels, **columns, "photo": originals}


def _write(path: Path, names: Sequence[str], columns: Mapping[str, Tensor]) -> None:
    tiles = torch.stack(list(columns.values()), 1)
    rows = dict(zip(names, tiles, strict=True))
    write_sheet(path, rows, [title.replace(", tau", "") for title in columns], 4)
