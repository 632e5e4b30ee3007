"""The training of two priors, and the measurement of completions."""

import dataclasses
import functools
from collections.abc import Mapping

import torch

from pixelsr.models import ConditioningNetwork, GatedPixelCNN, PixelModel
from pixelsr.training import TrainingConfig
from pixelsr.training.loss import check_size, is_multi_scale

from ..support.config import ExperimentConfig
from ..support.digits import load_gray
from ..support.faces import SIDE, check_face_model, load_portraits
from ..support.image_split import ImageSplit
from ..support.interleaved_training import TrainingPlan, read_log, train_in_turns, trained
from ..support.plots import check_installed, write_plot
from ..support.results import FINISHED, Results, begin, write_results
from .parts import (
    DIGITS,
    FACES,
    HOLE,
    LOWER,
    MODEL,
    NAME,
    complete,
    lower_half_bits,
    mean_of,
    score,
)
from .sheets import SAMPLES, Way, draw_sheets
from .timing import draw_times, measure_times

DRAWN, SCORED = 64, 256
"""The numbers of images that are completed, and whose likelihood is measured."""
BATCH = 16
"""The number of images in a batch outside training."""
ROUNDS = 9
"""The number of rounds of time measurements."""
VALIDATION = 1_000
"""The number of held-out images that choose the best step."""


@dataclasses.dataclass(frozen=True)
class PriorBudget:
    """The options and training budget of a prior, a `GatedPixelCNN`.

    Args:
        options: model config, except the colors.
        turns: number of turns; each ends with a measurement of the held-out images.
    """

    options: dict[str, int]
    training_config: TrainingConfig
    steps: int
    turns: int


SMALL = {"channels": 24, "layers": 6, "head_channels": 64, "levels": 8}
SMALL_FACES = {"channels": 48, "layers": 6, "kernel_size": 3, "head_channels": 128}
PAPER = TrainingConfig(batch=32, lr=4e-4, floor=0)
SCALES = {
    "small": {
        DIGITS: PriorBudget(
            SMALL, TrainingConfig(batch=16, lr=4e-3, floor=0, flip=False), 2_000, 5
        ),
        FACES: PriorBudget(
            SMALL_FACES, TrainingConfig(batch=8, lr=2e-3, floor=0, ema=0.995), 1_500, 5
        ),
    },
    "paper": {
        DIGITS: PriorBudget({}, dataclasses.replace(PAPER, flip=False), 100_000, 20),
        FACES: PriorBudget({}, PAPER, 200_000, 40),
    },
}


def run(config: ExperimentConfig) -> bool:
    """Train, complete and measure; see `experiments.run`."""
    check_installed()
    data = config.images(NAME)
    digits, faces, model = load_gray(data), load_portraits(data, SIDE), load_faces_model(config)
    images = {DIGITS: digits, FACES: faces}
    if min(len(digits.test), len(faces.test)) < 2:
        raise ValueError(
            f"{data} holds {len(digits.test)} test digits and {len(faces.test)} faces in val/, "
            "expected at least 2 of each"
        )
    plans = {}
    for name, some in images.items():
        budget = SCALES[config.scale][name]
        limits = budget.training_config, budget.steps, budget.turns, VALIDATION
        plans[name] = TrainingPlan.of(config, some, *limits)
    results = begin(config, NAME, _settings(config, plans, images))
    if FINISHED in results:
        return True
    for name, plan in plans.items():
        make = functools.partial(make_prior, name, config)
        if not train_in_turns({name: make}, plan, config.out, config.stop):
            return False
        results.setdefault("seconds", {})[name] = read_log(config.out / name)[-1]["seconds"]
        write_results(config.out / f"{NAME}.json", results)
    ways = {
        DIGITS: Way(trained(config.out / DIGITS, config.device), digits.test),
        FACES: Way(trained(config.out / FACES, config.device), faces.test),
        MODEL: Way(model, faces.test),
    }
    return _complete_all(config, ways, results)


def load_faces_model(config: ExperimentConfig) -> PixelModel:
    """Load the model that completes faces, on the device that draws.

    Raises:
        FileNotFoundError, ValueError: the model cannot be loaded, or does not complete RGB images
            of `SIDE` pixels.
    """
    model = PixelModel.from_pretrained(config.model)
    if isinstance(model, ConditioningNetwork) or is_multi_scale(model):
        raise ValueError(
            f"model {config.model} is a {type(model).__name__} that draws from a small image, "
            "expected a prior or a PixelRecursiveSR"
        )
    check_face_model(config.model, model)
    try:
        check_size(model, (SIDE, SIDE))
    except ValueError as error:
        raise ValueError(f"model {config.model} does not fit the faces: {error}") from None
    return model.to(config.device)


def make_prior(name: str, config: ExperimentConfig) -> PixelModel:
    """Return an untrained prior of digits or faces."""
    torch.manual_seed(config.seed)
    colors = 1 if name == DIGITS else 3
    return GatedPixelCNN(colors=colors, **SCALES[config.scale][name].options).to(config.device)


def _settings(
    config: ExperimentConfig, plans: Mapping[str, TrainingPlan], images: Mapping[str, ImageSplit]
) -> Results:
    """Return all that the results depend on, except the machine and the models."""
    priors = {
        name: {
            "options": SCALES[config.scale][name].options,
            "checksum": images[name].checksum,
            **plan.settings(),
        }
        for name, plan in plans.items()
    }
    return {"scale": config.scale, **priors, "model": config.model, "samples": SAMPLES}


def _complete_all(config: ExperimentConfig, ways: Mapping[str, Way], results: Results) -> bool:
    """Complete, score and measure times; return False if `config.stop` ended it."""
    found, bits = {}, {}
    for name, way in ways.items():
        facts: Results = {"model": way.model.describe(), "parts": {}}
        images = way.some(DRAWN)
        for part in (LOWER, HOLE):
            if config.stop():
                return False
            drawn = complete(way.model, images, part, SAMPLES, config.seed, BATCH * SAMPLES)
            facts["parts"][part] = score(drawn, images, part, way.model.levels)
        bits[name] = lower_half_bits(way.model, way.some(SCORED), BATCH)
        facts["lower_half_bits"] = mean_of(bits[name])
        facts["times"] = measure_times(way.model, way.some(BATCH), ROUNDS)
        found[name] = facts
    results["ways"] = found
    results["bits_saved_by_model"] = mean_of(bits[FACES] - bits[MODEL])
    path = config.out / f"{NAME}.json"
    write_results(path, results)
    write_plot(path.with_suffix(".png"), draw_times(results))
    draw_sheets(config, ways)
    return True
