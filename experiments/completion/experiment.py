"""Trains two priors, completes, measures."""

import dataclasses
import functools
from collections.abc import Mapping

import torch

from pixelsr.models import ConditioningNetwork, GatedPixelCNN, PixelModel
from pixelsr.training import TrainingConfig
from pixelsr.training.loss import check_size, is_multi_scale

from ..support.config import ExperimentConfig
from ..support.digits import Digits, load_gray
from ..support.faces import SIDE, Portraits, check_trained_size, load_portraits
from ..support.interleaved_training import Plan, read_log, train_in_turns, trained
from ..support.plots import check_installed, write_plot
from ..support.results import FINISHED, Results, begin, write_figures
from .parts import HOLE, LOWER, complete, lower_half_bits, mean_of, score
from .report import DIGITS, FACES, MODEL, NAME, draw_times
from .sheets import SAMPLES, Way, draw_sheets
from .timing import measure_times

DRAWN, SCORED = 64, 256
"""Images that are completed, and those whose likelihood is measured."""
BATCH = 16
"""Images at once where nothing is trained."""
ROUNDS = 9
"""In which times are taken."""
VALIDATION = 1_000
"""Held-out images that tell the best step."""
Parts = Digits | Portraits


@dataclasses.dataclass(frozen=True)
class Budget:
    """A prior that is trained here, a `GatedPixelCNN`.

    Args:
        options: its config, beside the colors.
        turns: that the steps are cut into; after each the held-out images are measured.
    """

    options: dict[str, int]
    recipe: TrainingConfig
    steps: int
    turns: int


SMALL = {"channels": 24, "layers": 6, "head_channels": 64, "levels": 8}
SMALL_FACES = {"channels": 48, "layers": 6, "kernel_size": 3, "head_channels": 128}
PAPER = TrainingConfig(batch=32, lr=4e-4, floor=0)
SCALES = {
    "small": {
        DIGITS: Budget(SMALL, TrainingConfig(batch=16, lr=4e-3, floor=0, flip=False), 2_000, 5),
        FACES: Budget(SMALL_FACES, TrainingConfig(batch=8, lr=2e-3, floor=0, ema=0.995), 1_500, 5),
    },
    "paper": {
        DIGITS: Budget({}, dataclasses.replace(PAPER, flip=False), 100_000, 20),
        FACES: Budget({}, PAPER, 200_000, 40),
    },
}


def run(task: ExperimentConfig) -> bool:
    """Train, complete, measure; see `experiments.run`."""
    check_installed()
    data = task.images(NAME)
    digits, faces, model = load_gray(data), load_portraits(data, SIDE), load_faces_model(task)
    images: dict[str, Parts] = {DIGITS: digits, FACES: faces}
    if min(len(digits.test), len(faces.val)) < 2:
        raise ValueError(
            f"{data} holds {len(digits.test)} test digits and {len(faces.val)} faces in val/, "
            "expected at least 2 of each"
        )
    plans = {name: _plan(task, name, some) for name, some in images.items()}
    results = begin(task, NAME, _settings(task, plans, images))
    if FINISHED in results:
        return True
    for name, plan in plans.items():
        make = functools.partial(make_prior, name, task)
        if not train_in_turns({name: make}, plan, task.out, task.stop):
            return False
        results.setdefault("seconds", {})[name] = read_log(task.out / name)[-1]["seconds"]
        write_figures(task.out / f"{NAME}.json", results)
    ways = {
        DIGITS: Way(trained(task.out / DIGITS, task.device), digits.test),
        FACES: Way(trained(task.out / FACES, task.device), faces.val),
        MODEL: Way(model, faces.val),
    }
    return _complete_all(task, ways, results)


def load_faces_model(task: ExperimentConfig) -> PixelModel:
    """The model that completes faces, where it is to draw.

    Raises:
        FileNotFoundError, ValueError: it cannot be loaded, or does not complete RGB images of
            `SIDE` pixels.
    """
    model = PixelModel.from_pretrained(task.model)
    if isinstance(model, ConditioningNetwork) or is_multi_scale(model):
        raise ValueError(
            f"model {task.model} is a {type(model).__name__} that draws from a small image, "
            "expected a prior or a PixelRecursiveSR"
        )
    if (model.colors, model.levels) != (3, 256):
        raise ValueError(
            f"model {task.model} draws {model.levels} levels of {model.colors} colors; faces "
            "have 256 of 3"
        )
    try:
        check_size(model, (SIDE, SIDE))
    except ValueError as error:
        raise ValueError(f"model {task.model} does not fit the faces: {error}") from None
    check_trained_size(task.model)
    return model.to(task.device)


def make_prior(name: str, task: ExperimentConfig) -> PixelModel:
    """An untrained prior, of digits or faces."""
    torch.manual_seed(task.seed)
    colors = 1 if name == DIGITS else 3
    return GatedPixelCNN(colors=colors, **SCALES[task.scale][name].options).to(task.device)


def _plan(task: ExperimentConfig, name: str, images: Parts) -> Plan:
    budget = SCALES[task.scale][name]
    recipe = dataclasses.replace(budget.recipe, seed=task.seed)
    validation = images.held_out[:VALIDATION]
    return Plan.of(images.train, validation, recipe, task.steps or budget.steps, budget.turns)


def _settings(
    task: ExperimentConfig, plans: Mapping[str, Plan], images: Mapping[str, Parts]
) -> Results:
    """All that the figures depend on, beside the machine and the models."""
    priors = {
        name: {
            "options": SCALES[task.scale][name].options,
            "checksum": images[name].checksum,
            **plan.settings(),
        }
        for name, plan in plans.items()
    }
    return {"scale": task.scale, **priors, "model": task.model, "samples": SAMPLES}


def _complete_all(task: ExperimentConfig, ways: Mapping[str, Way], results: Results) -> bool:
    """Complete, score, take the times; false where `task.stop` has ended it."""
    found, bits = {}, {}
    for name, way in ways.items():
        facts: Results = {"model": way.model.describe(), "parts": {}}
        images = way.some(DRAWN)
        for part in (LOWER, HOLE):
            if task.stop():
                return False
            drawn = complete(way.model, images, part, SAMPLES, task.seed, BATCH * SAMPLES)
            facts["parts"][part] = score(drawn, images, part, way.model.levels)
        bits[name] = lower_half_bits(way.model, way.some(SCORED), BATCH)
        facts["lower_half_bits"] = mean_of(bits[name])
        facts["times"] = measure_times(way.model, way.some(BATCH), ROUNDS)
        found[name] = facts
    results["ways"] = found
    results["bits_saved_by_model"] = mean_of(bits[FACES] - bits[MODEL])
    path = task.out / f"{NAME}.json"
    write_figures(path, results)
    write_plot(path.with_suffix(".png"), draw_times(results))
    draw_sheets(task, ways)
    return True
