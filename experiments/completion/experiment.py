"""Trains two priors, completes, measures."""

import dataclasses
import functools
from collections.abc import Mapping

import torch

from pixelsr.models import ConditioningNetwork, GatedPixelCNN, PixelModel
from pixelsr.training import Recipe
from pixelsr.training.loss import check_size, is_multi_scale

from ..support.config import Task
from ..support.digits import Digits, load_grey
from ..support.faces import SIDE, Portraits, check_trained_size, load_portraits
from ..support.interleaved_training import Plan, read_log, train_in_turns, trained
from ..support.plots import check_installed, write_plot
from ..support.results import FINISHED, Figures, begin, write_figures
from .parts import HOLE, LOWER, complete, lower_half_bits, mean_of, score
from .report import DIGITS, FACES, MODEL, NAME, draw_times
from .sheets import SAMPLES, Way, draw_sheets
from .timing import measure_times

DRAWN, SCORED = 64, 256
"""Pictures that are completed, and those whose likelihood is measured."""
BATCH = 16
"""Pictures at once where nothing is trained."""
ROUNDS = 9
"""In which times are taken."""
VALIDATION = 1_000
"""Held-out pictures that tell the best step."""
Parts = Digits | Portraits


@dataclasses.dataclass(frozen=True)
class Budget:
    """A prior that is trained here, a `GatedPixelCNN`.

    Args:
        options: its config, beside the colours.
        turns: that the steps are cut into; after each the held-out pictures are measured.
    """

    options: dict[str, int]
    recipe: Recipe
    steps: int
    turns: int


SMALL = {"channels": 24, "layers": 6, "head_channels": 64, "levels": 8}
SMALL_FACES = {"channels": 48, "layers": 6, "kernel_size": 3, "head_channels": 128}
PAPER = Recipe(batch=32, lr=4e-4, floor=0)
SCALES = {
    "small": {
        DIGITS: Budget(SMALL, Recipe(batch=16, lr=4e-3, floor=0, flip=False), 2_000, 5),
        FACES: Budget(SMALL_FACES, Recipe(batch=8, lr=2e-3, floor=0, ema=0.995), 1_500, 5),
    },
    "paper": {
        DIGITS: Budget({}, dataclasses.replace(PAPER, flip=False), 100_000, 20),
        FACES: Budget({}, PAPER, 200_000, 40),
    },
}


def run(task: Task) -> bool:
    """Train, complete, measure; see `experiments.run`."""
    check_installed()
    data = task.pictures(NAME)
    digits, faces, model = load_grey(data), load_portraits(data, SIDE), load_faces_model(task)
    pictures: dict[str, Parts] = {DIGITS: digits, FACES: faces}
    if min(len(digits.test), len(faces.val)) < 2:
        raise ValueError(
            f"{data} holds {len(digits.test)} test digits and {len(faces.val)} faces in val/, "
            "expected at least 2 of each"
        )
    plans = {name: _plan(task, name, some) for name, some in pictures.items()}
    figures = begin(task, NAME, _settings(task, plans, pictures))
    if FINISHED in figures:
        return True
    for name, plan in plans.items():
        make = functools.partial(make_prior, name, task)
        if not train_in_turns({name: make}, plan, task.out, task.stop):
            return False
        figures.setdefault("seconds", {})[name] = read_log(task.out / name)[-1]["seconds"]
        write_figures(task.out / f"{NAME}.json", figures)
    ways = {
        DIGITS: Way(trained(task.out / DIGITS, task.device), digits.test),
        FACES: Way(trained(task.out / FACES, task.device), faces.val),
        MODEL: Way(model, faces.val),
    }
    return _complete_all(task, ways, figures)


def load_faces_model(task: Task) -> PixelModel:
    """The model that completes faces, where it is to draw.

    Raises:
        FileNotFoundError, ValueError: it cannot be loaded, or does not complete RGB pictures of
            `SIDE` pixels.
    """
    model = PixelModel.from_pretrained(task.model)
    if isinstance(model, ConditioningNetwork) or is_multi_scale(model):
        raise ValueError(
            f"model {task.model} is a {type(model).__name__} that draws from a small picture, "
            "expected a prior or a PixelRecursiveSR"
        )
    if (model.colours, model.levels) != (3, 256):
        raise ValueError(
            f"model {task.model} draws {model.levels} levels of {model.colours} colours; faces "
            "have 256 of 3"
        )
    try:
        check_size(model, (SIDE, SIDE))
    except ValueError as error:
        raise ValueError(f"model {task.model} does not fit the faces: {error}") from None
    check_trained_size(task.model)
    return model.to(task.device)


def make_prior(name: str, task: Task) -> PixelModel:
    """An untrained prior, of digits or faces."""
    torch.manual_seed(task.seed)
    colours = 1 if name == DIGITS else 3
    return GatedPixelCNN(colours=colours, **SCALES[task.scale][name].options).to(task.device)


def _plan(task: Task, name: str, pictures: Parts) -> Plan:
    budget = SCALES[task.scale][name]
    recipe = dataclasses.replace(budget.recipe, seed=task.seed)
    validation = pictures.held_out[:VALIDATION]
    return Plan.of(pictures.train, validation, recipe, task.steps or budget.steps, budget.turns)


def _settings(task: Task, plans: Mapping[str, Plan], pictures: Mapping[str, Parts]) -> Figures:
    """All that the figures depend on, beside the machine and the models."""
    priors = {
        name: {
            "options": SCALES[task.scale][name].options,
            "checksum": pictures[name].checksum,
            **plan.settings(),
        }
        for name, plan in plans.items()
    }
    return {"scale": task.scale, **priors, "model": task.model, "samples": SAMPLES}


def _complete_all(task: Task, ways: Mapping[str, Way], figures: Figures) -> bool:
    """Complete, score, take the times; false where `task.stop` has ended it."""
    found, bits = {}, {}
    for name, way in ways.items():
        facts: Figures = {"model": way.model.describe(), "parts": {}}
        images = way.pictures(DRAWN)
        for part in (LOWER, HOLE):
            if task.stop():
                return False
            drawn = complete(way.model, images, part, SAMPLES, task.seed, BATCH * SAMPLES)
            facts["parts"][part] = score(drawn, images, part, way.model.levels)
        bits[name] = lower_half_bits(way.model, way.pictures(SCORED), BATCH)
        facts["lower_half_bits"] = mean_of(bits[name])
        facts["times"] = measure_times(way.model, way.pictures(BATCH), ROUNDS)
        found[name] = facts
    figures["ways"] = found
    figures["bits_saved_by_model"] = mean_of(bits[FACES] - bits[MODEL])
    path = task.out / f"{NAME}.json"
    write_figures(path, figures)
    write_plot(path.with_suffix(".png"), draw_times(figures))
    draw_sheets(task, ways)
    return True
