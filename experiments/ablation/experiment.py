"""Trains, measures and compares the arms."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pixelsr.functional import nll
from pixelsr.models import GatedPixelCNN, PixelModel, PixelRecursiveSR
from pixelsr.sampling import sample
from pixelsr.training.loss import bits_per_dimension
from pixelsr.utils.progress import track

from ..receptive_field import live_parameters
from ..support.config import ExperimentConfig
from ..support.faces import Portraits, free_portraits, load_portraits
from ..support.interleaved_training import Plan, read_log, train_in_turns, trained
from ..support.plots import check_installed, write_plot, write_sheet
from ..support.results import FINISHED, Results, begin, write_figures
from .models import SCALE_FACTOR, SCALES, OneStackPixelCNN, Scale, build, visible_share
from .report import ARMS, NAME, SIGHT, SUMS, draw_arms

SEEDS = 3
SHOWN = 8
"""Images in a row of a sheet."""
BATCH = 32
"""Images at once where nothing is trained; no figure depends on it."""


def run(task: ExperimentConfig) -> bool:
    """Train, measure, draw; see `experiments.run`."""
    check_installed()
    scale = SCALES[task.scale]
    scale = dataclasses.replace(scale, steps=task.steps or scale.steps)
    faces = load_portraits(task.images(NAME), scale.side)
    if len(faces.val) < 2:
        raise ValueError(f"{task.data} holds {len(faces.val)} face in val/, expected at least 2")
    plans = {task.seed + k: _plan(scale, faces, task.seed + k) for k in range(SEEDS)}
    path = task.out / f"{NAME}.json"
    results = begin(task, NAME, _settings(task, plans[task.seed], faces))
    if FINISHED in results:
        return True
    if "arms" not in results:
        results["arms"] = {name: arm_facts(name, scale) for name in ARMS}
        results["visible"] = _visible(scale)
        write_figures(path, results)
    for seed, plan in plans.items():
        if str(seed) not in results["arms"]["prior"]["seeds"]:
            if not _train(task, scale, plan):
                return False
            _measure(results, task, seed, faces.val)
            write_figures(path, results)
    compare(results)
    write_figures(path, results)
    write_plot(path.with_suffix(".png"), draw_arms(results))
    _draw_samples(task, faces.val)
    return True


def _plan(scale: Scale, faces: Portraits, seed: int) -> Plan:
    recipe = dataclasses.replace(scale.recipe, seed=seed)
    return Plan.of(faces.train, faces.held_out, recipe, scale.steps, scale.turns)


def _settings(task: ExperimentConfig, plan: Plan, faces: Portraits) -> Results:
    """All that the figures depend on, beside the machine and the models."""
    return {
        "scale": task.scale,
        **plan.settings(),
        "seeds": SEEDS,
        "test_images": len(faces.val),
        "size": list(faces.val.shape[2:]),
        "scale_factor": SCALE_FACTOR,
        "checksum": faces.checksum,
    }


def make(name: str, scale: Scale, task: ExperimentConfig, seed: int) -> PixelModel:
    """An untrained model."""
    torch.manual_seed(seed)
    return build(name, scale).to(task.device)


def arm_facts(name: str, scale: Scale) -> Results:
    """What the figures say of an arm before it is trained."""
    model = build(name, scale)
    return {"model": model.describe(), "parameters": live_parameters(model), "seeds": {}}


def _visible(scale: Scale) -> Results:
    """How much of the past the priors of two stacks and of one can see."""
    kinds = {"prior": GatedPixelCNN, "prior-one-stack": OneStackPixelCNN}
    sizes = scale.prior["layers"], scale.prior["kernel_size"], SIGHT
    shown = track(list(kinds.items()), "what a pixel sees", True)
    return {name: round(visible_share(kind, *sizes), 4) for name, kind in shown}


def _train(task: ExperimentConfig, scale: Scale, plan: Plan) -> bool:
    """All arms with one seed; true where they are finished."""
    makers: dict[str, Callable[[], PixelModel]] = {
        name: functools.partial(make, name, scale, task, plan.recipe.seed) for name in ARMS
    }
    return train_in_turns(makers, plan, _folder(task, plan.recipe.seed), task.stop)


def _folder(task: ExperimentConfig, seed: int) -> Path:
    return task.out / f"seed-{seed}"


def _measure(results: Results, task: ExperimentConfig, seed: int, faces: Tensor) -> None:
    """Bits per dimension of the faces, and what another face's small image costs."""
    for name in track(list(ARMS), f"bits per dimension, seed {seed}", True):
        out = _folder(task, seed) / name
        model = trained(out, task.device)
        bits = bits_per_dimension(model, faces, BATCH)
        if name in SUMS:
            bits["swapped"] = swapped_bits(model, faces)
        facts = {key: round(value, 5) for key, value in bits.items()}
        results["arms"][name]["seeds"][str(seed)] = facts | {
            "seconds": read_log(out)[-1]["seconds"]
        }


@torch.inference_mode()
def swapped_bits(model: PixelRecursiveSR, faces: Tensor) -> float:
    """Bits of the sum where each face has another's small image, that of one half a list away."""
    total, others = 0.0, faces.roll(len(faces) // 2, 0)
    for face, other in zip(faces.split(BATCH), others.split(BATCH), strict=True):
        images = face.to(model.device)
        logits = model(images, model.downsample(other.to(model.device)))
        total += nll(logits, images).double().sum().item()
    return total / (faces.numel() * math.log(2))


def compare(results: Results) -> None:
    """Mean and deviation over the seeds: of each arm, and of its difference from its base."""
    arms = results["arms"]
    for facts in arms.values():
        facts["bits"] = _summary([_own(one) for one in facts["seeds"].values()])
    for name in SUMS:
        seeds = arms[name]["seeds"].values()
        arms[name]["input"] = _summary([one["swapped"] - one["sum"] for one in seeds])
    for name, arm in ARMS.items():
        if arm.base is not None:
            arms[name]["more"] = _differences(arms[name]["bits"], arms[arm.base]["bits"])
    one_term = arms["sum-one-term"]
    one_term["more_input"] = _differences(one_term["input"], arms["sum"]["input"])


def _own(bits: Mapping[str, float]) -> float:
    """Of the distribution that a model stands for."""
    return bits["sum"] if "sum" in bits else bits["model"]


def _summary(values: Sequence[float]) -> Results:
    found = torch.tensor(values, dtype=torch.float64)
    return {
        "each": [round(value, 5) for value in values],
        "mean": round(found.mean().item(), 5),
        "deviation": round(found.std().item(), 5),
    }


def _differences(ours: Results, base: Results) -> Results:
    """Seed by seed: first weights and images are the same in both."""
    return _summary([a - b for a, b in zip(ours["each"], base["each"], strict=True)])


def _draw_samples(task: ExperimentConfig, faces: Tensor) -> None:
    """Small images, and what the two sums make of them: of faces, and of portraits to show."""
    chosen = faces[:: max(1, len(faces) // SHOWN)][:SHOWN]
    free = torch.stack(list(free_portraits(faces.shape[3]).values()))
    for file, images in (
        (f"photos-{NAME}", chosen),
        (f"{NAME}-samples", free.repeat_interleave(SHOWN // len(free), 0)),
    ):
        rows = {"photos": images}
        for name in SUMS:
            model = trained(_folder(task, task.seed) / name, task.device)
            small = model.downsample(images.to(model.device))
            large = torch.nn.functional.interpolate(small, scale_factor=SCALE_FACTOR)
            rows["made small"] = large.cpu()
            drawn = sample(model, low_res=small, seed=task.seed, progress=True)
            rows[ARMS[name].title] = drawn.cpu()
        write_sheet(task.out / f"{file}.png", rows, scale=6)
