"""The training, measurement and comparison of the arms."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsr.functional import nll
from pixelsr.models import GatedPixelCNN, PixelModel, PixelRecursiveSR
from pixelsr.sampling import sample
from pixelsr.training.loss import bits_per_dimension
from pixelsr.utils.progress import track

from ..receptive_field import live_parameters
from ..support.config import ExperimentConfig
from ..support.faces import free_portraits, load_portraits
from ..support.image_split import ImageSplit
from ..support.interleaved_training import TrainingPlan, read_log, train_in_turns, trained
from ..support.plots import COLORS, canvas, check_installed, tidy, write_plot, write_sheet
from ..support.results import FINISHED, Results, begin, write_results
from .models import ARMS, SCALE_FACTOR, SCALES, SUMS, OneStackPixelCNN, Scale, build, visible_share

NAME = "ablation"
SEEDS = 3
SIGHT = 15
"""The side of the images at whose center the blind spot is measured."""
SHOWN = 8
"""The number of images in a row of a sheet."""
BATCH = 32
"""The number of images in a batch outside training; no result depends on it."""


def run(config: ExperimentConfig) -> bool:
    """Train, measure and draw; see `experiments.run`."""
    check_installed()
    scale = SCALES[config.scale]
    faces = load_portraits(config.images(NAME), scale.side)
    if len(faces.test) < 2:
        raise ValueError(f"{config.data} holds {len(faces.test)} face in val/, expected at least 2")
    budget = scale.training_config, scale.steps, scale.turns
    plans = {
        seed: TrainingPlan.of(dataclasses.replace(config, seed=seed), faces, *budget)
        for seed in range(config.seed, config.seed + SEEDS)
    }
    path = config.out / f"{NAME}.json"
    results = begin(config, NAME, _settings(config, plans[config.seed], faces))
    if FINISHED in results:
        return True
    if "arms" not in results:
        results["arms"] = {name: arm_facts(name, scale) for name in ARMS}
        results["visible"] = _visible(scale)
        write_results(path, results)
    for seed, plan in plans.items():
        if str(seed) not in results["arms"]["prior"]["seeds"]:
            if not _train(config, scale, plan):
                return False
            _measure(results, config, seed, faces.test)
            write_results(path, results)
    compare(results)
    write_results(path, results)
    write_plot(path.with_suffix(".png"), draw_arms(results))
    _draw_samples(config, faces.test)
    return True


def _settings(config: ExperimentConfig, plan: TrainingPlan, faces: ImageSplit) -> Results:
    """Return all that the results depend on, except the machine and the models."""
    return {
        "scale": config.scale,
        **plan.settings(),
        "seeds": SEEDS,
        "test_images": len(faces.test),
        "size": list(faces.test.shape[2:]),
        "scale_factor": SCALE_FACTOR,
        "checksum": faces.checksum,
    }


def make(name: str, scale: Scale, config: ExperimentConfig, seed: int) -> PixelModel:
    """Return an untrained model."""
    torch.manual_seed(seed)
    return build(name, scale).to(config.device)


def arm_facts(name: str, scale: Scale) -> Results:
    """Return the results of an arm before it is trained."""
    model = build(name, scale)
    return {"model": model.describe(), "parameters": live_parameters(model), "seeds": {}}


def _visible(scale: Scale) -> Results:
    """Return the share of the past that priors with two stacks and with one can see."""
    kinds = {"prior": GatedPixelCNN, "prior-one-stack": OneStackPixelCNN}
    sizes = scale.prior["layers"], scale.prior["kernel_size"], SIGHT
    shown = track(list(kinds.items()), "receptive fields", True)
    return {name: round(visible_share(kind, *sizes), 4) for name, kind in shown}


def _train(config: ExperimentConfig, scale: Scale, plan: TrainingPlan) -> bool:
    """Train all arms with one seed; return True if they are finished."""
    makers: dict[str, Callable[[], PixelModel]] = {
        name: functools.partial(make, name, scale, config, plan.training_config.seed)
        for name in ARMS
    }
    return train_in_turns(makers, plan, _folder(config, plan.training_config.seed), config.stop)


def _folder(config: ExperimentConfig, seed: int) -> Path:
    return config.out / f"seed-{seed}"


def _measure(results: Results, config: ExperimentConfig, seed: int, faces: Tensor) -> None:
    """Measure bits per dimension of the faces, also with the small image of another face."""
    for name in track(list(ARMS), f"bits per dimension, seed {seed}", True):
        out = _folder(config, seed) / name
        model = trained(out, config.device)
        bits = bits_per_dimension(model, faces, BATCH)
        if name in SUMS:
            bits["swapped"] = swapped_bits(model, faces)
        facts = {key: round(value, 5) for key, value in bits.items()}
        results["arms"][name]["seeds"][str(seed)] = facts | {
            "seconds": read_log(out)[-1]["seconds"]
        }


@torch.inference_mode()
def swapped_bits(model: PixelRecursiveSR, faces: Tensor) -> float:
    """Return bits of the sum if each face has the small image of the face half a list away."""
    total, others = 0.0, faces.roll(len(faces) // 2, 0)
    for face, other in zip(faces.split(BATCH), others.split(BATCH), strict=True):
        images = face.to(model.device)
        logits = model(images, model.downsample(other.to(model.device)))
        total += nll(logits, images).double().sum().item()
    return total / (faces.numel() * math.log(2))


def compare(results: Results) -> None:
    """Add means and deviations over the seeds, of each arm and of its difference from its base."""
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
    """Return the bits of the model's own distribution."""
    return bits["sum"] if "sum" in bits else bits["model"]


def _summary(values: Sequence[float]) -> Results:
    found = torch.tensor(values, dtype=torch.float64)
    return {
        "each": [round(value, 5) for value in values],
        "mean": round(found.mean().item(), 5),
        "deviation": round(found.std().item(), 5),
    }


def _differences(ours: Results, base: Results) -> Results:
    """Summarize the differences by seed: initial weights and images are the same in both arms."""
    return _summary([a - b for a, b in zip(ours["each"], base["each"], strict=True)])


def _draw_samples(config: ExperimentConfig, faces: Tensor) -> None:
    """Draw samples of both sums from the same small images, of faces and of free portraits."""
    chosen = faces[:: max(1, len(faces) // SHOWN)][:SHOWN]
    free = torch.stack(list(free_portraits(faces.shape[3]).values()))
    for file, images in (
        (f"photos-{NAME}", chosen),
        (f"{NAME}-samples", free.repeat_interleave(SHOWN // len(free), 0)),
    ):
        rows = {"photos": images}
        for name in SUMS:
            model = trained(_folder(config, config.seed) / name, config.device)
            small = model.downsample(images.to(model.device))
            large = torch.nn.functional.interpolate(small, scale_factor=SCALE_FACTOR)
            rows["made small"] = large.cpu()
            drawn = sample(model, low_res=small, seed=config.seed, progress=True)
            rows[ARMS[name].title] = drawn.cpu()
        write_sheet(config.out / f"{file}.png", rows, scale=6)


def draw_arms(results: Results) -> Any:
    """Draw a dot for each arm and seed, a line through each seed, and a bar at the mean."""
    arms = results["arms"]
    panels = {
        "bits per dimension, sum": {name: arms[name]["bits"] for name in SUMS},
        "bits that another's small image costs": {name: arms[name]["input"] for name in SUMS},
        "bits per dimension, prior": {
            name: facts["bits"] for name, facts in arms.items() if name not in SUMS
        },
    }
    figure = canvas(10, 3.8)
    ratios = [len(panel) + 0.5 for panel in panels.values()]
    every = figure.subplots(1, len(panels), width_ratios=ratios)
    seeds = list(arms["prior"]["seeds"])
    for axes, (title, panel) in zip(every, panels.items(), strict=True):
        positions = range(len(panel))
        for k, seed in enumerate(seeds):
            values = [one["each"][k] for one in panel.values()]
            color = COLORS[k % len(COLORS)]
            axes.plot(positions, values, "o-", color=color, linewidth=0.8, label=f"seed {seed}")
        means = [one["mean"] for one in panel.values()]
        axes.scatter(positions, means, marker="_", s=500, color="#333333", label="mean")
        tidy(axes, "", title)
        axes.set_xticks(positions, [ARMS[name].label for name in panel])
        axes.set_xlim(-0.5, len(panel) - 0.5)
        axes.grid(visible=False, axis="x")
    every[-1].legend(frameon=False, fontsize=8)
    return figure
