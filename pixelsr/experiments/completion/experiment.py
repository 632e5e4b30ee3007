"""Trains two priors, completes, measures."""

import dataclasses
import functools
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from ...models import ConditioningNetwork, GatedPixelCNN, PixelModel
from ...training import Recipe
from ...training.objective import check_size, is_multi_scale
from ..digits import HELD_OUT, load_grey
from ..figures import Figures, begin, write_figures
from ..portraits import SIDE, Portraits, check_trained_size, load_portraits
from ..task import Task
from ..turns import Plan, read_log, train_in_turns, trained
from .parts import HOLE, LOWER, complete, lower_half_bits, score
from .section import DIGITS, FACES, MODEL, NAME
from .sheets import SAMPLES, Way, draw_sheets
from .timing import measure_times

DRAWN, SCORED = 64, 256
"""Pictures that are completed, and those whose likelihood is measured."""
BATCH = 16
"""Pictures at once where nothing is trained."""
ROUNDS = 9
"""In which times are taken."""
HELD_OUT_FACES = 500
"""Of the training pictures, the last: they tell the best step."""


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
        DIGITS: Budget(SMALL, Recipe(batch=16, lr=4e-3, floor=0, flip=False), 2_500, 5),
        FACES: Budget(SMALL_FACES, Recipe(batch=8, lr=2e-3, floor=0, ema=0.995), 1_500, 5),
    },
    "paper": {
        DIGITS: Budget({}, dataclasses.replace(PAPER, flip=False), 100_000, 20),
        FACES: Budget({}, PAPER, 200_000, 40),
    },
}


def run(task: Task) -> bool:
    """Train, complete, measure; see `pixelsr.experiments.run`."""
    data = task.pictures(NAME)
    train, test = load_grey(data)
    portraits, model = load_portraits(data, SIDE), load_faces_model(task)
    held_out = {
        DIGITS: len(train) // HELD_OUT,
        FACES: min(HELD_OUT_FACES, len(portraits.train) // 2),
    }
    pictures = {DIGITS: train, FACES: portraits.train}
    plans = {name: _plan(task, name, pictures[name], held_out[name]) for name in pictures}
    figures = begin(task, NAME, _settings(task, plans, test, portraits))
    for name, plan in plans.items():
        finished = False
        make = functools.partial(make_prior, name, task)
        for steps in train_in_turns({name: make}, plan, task.out, task.stop):
            finished = steps == plan.steps
        if not finished:
            return False
        figures.setdefault("seconds", {})[name] = read_log(task.out / name)[-1]["seconds"]
        write_figures(task.out / f"{NAME}.json", figures)
    ways = {
        DIGITS: Way(trained(task.out / DIGITS, task.device), test),
        FACES: Way(trained(task.out / FACES, task.device), portraits.val),
        MODEL: Way(model, portraits.val),
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
    if model.colours != 3:
        raise ValueError(f"model {task.model} draws {model.colours} colours; faces have 3")
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


def _plan(task: Task, name: str, train: Tensor, held_out: int) -> Plan:
    """The last of the training pictures are held out; a thousand of them tell the best step."""
    budget = SCALES[task.scale][name]
    steps = task.steps or budget.steps
    return Plan(
        images=train[:-held_out],
        validation=train[-held_out:][:1000],
        recipe=dataclasses.replace(budget.recipe, seed=task.seed),
        steps=steps,
        turn=max(1, steps // budget.turns),
    )


def _settings(task: Task, plans: Mapping[str, Plan], test: Tensor, portraits: Portraits) -> Figures:
    """All that the figures depend on, beside the machine and the models."""
    priors = {
        name: {
            "options": SCALES[task.scale][name].options,
            "steps": plan.steps,
            "turn": plan.turn,
            "recipe": dataclasses.asdict(plan.recipe),
            "training_pictures": len(plan.images),
            "held_out_pictures": len(plan.validation),
        }
        for name, plan in plans.items()
    }
    checksum = 0
    for images in (plans[DIGITS].images, plans[DIGITS].validation, test):
        checksum = zlib.crc32(images.contiguous().numpy().data, checksum)
    return {
        "scale": task.scale,
        **priors,
        "digits_checksum": f"{checksum:08x}",
        "faces_checksum": portraits.checksum,
        "model": task.model,
        "samples": SAMPLES,
    }


def _complete_all(task: Task, ways: Mapping[str, Way], figures: Figures) -> bool:
    """Complete, score, take the times; false where `task.stop` has ended it."""
    found = {}
    for name, way in ways.items():
        facts: Figures = {"model": way.model.describe(), "parts": {}}
        images = way.pictures(DRAWN)
        for part in (LOWER, HOLE):
            if task.stop():
                return False
            drawn = complete(way.model, images, part, SAMPLES, task.seed, BATCH * SAMPLES)
            facts["parts"][part] = score(drawn, images, part, way.model.levels)
        facts["lower_half_bits"] = lower_half_bits(way.model, way.pictures(SCORED), BATCH)
        facts["times"] = measure_times(way.model, way.pictures(BATCH), ROUNDS)
        found[name] = facts
    figures["ways"] = found
    write_figures(task.out / f"{NAME}.json", figures)
    draw_sheets(task, ways)
    return True
