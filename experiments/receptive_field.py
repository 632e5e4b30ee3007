"""Does a wider receptive field win? The likelihood of binarized MNIST, of three models.

PixelCNN, Row LSTM and Diagonal BiLSTM (van den Oord, Kalchbrenner, Kavukcuoglu; 1601.06759) of
equal parameter count are trained on one budget: steps, batch, optimizer, learning rates, seed and
order of the images are the same. So is what is measured: the averaged weights of the best
validation, once on all test images.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsr.data.quantize import from_levels, to_levels
from pixelsr.models import DiagonalBiLSTM, PixelCNN, PixelModel, RowLSTM
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling import sample
from pixelsr.training import TrainingConfig
from pixelsr.utils.progress import track

from .support.config import ExperimentConfig
from .support.digits import BINARIZATION, BINARIZE, SIDE, Digits, load_digits
from .support.interleaved_training import Plan, read_log, train_in_turns, trained
from .support.plots import COLORS, canvas, check_installed, tidy, write_plot
from .support.report_text import ALIKE, again, budget, image, machine, table
from .support.results import FINISHED, Results, begin, write_figures

NAME = "receptive-field"
SAMPLES = 10
"""Drawn of each model."""
BATCH = 100
"""Images at once where nothing is trained; no figure depends on it."""


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A model, its name in a sentence, what the paper found, and what a pixel can see."""

    kind: type[PixelModel]
    options: dict[str, int]
    title: str
    paper: float
    sees: str


@dataclasses.dataclass(frozen=True)
class Scale:
    """The budget.

    Args:
        steps: of each model.
        turns: that they are cut into; after each the held-out images are measured.
        validation: how many of them.
    """

    steps: int
    turns: int
    validation: int


CONTESTANTS = {
    "PixelCNN": Contestant(
        PixelCNN, {"channels": 31, "layers": 8}, "PixelCNN", 81.30, "a cone, with a blind spot"
    ),
    "RowLSTM": Contestant(
        RowLSTM, {"channels": 17, "layers": 7}, "Row LSTM", 80.54, "a triangle above"
    ),
    "DiagonalBiLSTM": Contestant(
        DiagonalBiLSTM, {"channels": 16, "layers": 7}, "Diagonal BiLSTM", 79.20, "all of the past"
    ),
}
"""Of equal parameter count. The last is the paper's best for MNIST, of 7 layers and h = 16."""
SHARED = {"head_channels": 32, "colors": 1, "levels": 2}
BUDGET_NOTES = {
    "small": "the budget is short, one for two CPU cores",
    "paper": "the budget is ours, as the paper does not state its own",
}
LR = 4e-3
BUDGETS = {"small": Scale(6_000, 15, 1_000), "paper": Scale(200_000, 40, 10_000)}


def run(task: ExperimentConfig) -> bool:
    """Train, measure, draw; see `experiments.run`."""
    check_installed()
    digits, scale = load_digits(task.images(NAME)), BUDGETS[task.scale]
    scale = dataclasses.replace(scale, steps=task.steps or scale.steps)
    plan = _plan(task, scale, digits)
    path = task.out / f"{NAME}.json"
    results = begin(task, NAME, _settings(task, plan, digits))
    if FINISHED in results:
        return True
    if "models" not in results:
        results["models"] = {name: _facts(name) for name in CONTESTANTS}
    makers = {name: functools.partial(make, name, task) for name in CONTESTANTS}

    def show_curves() -> None:
        _read_curves(results, task.out)
        write_figures(path, results)
        write_plot(path.with_suffix(".png"), draw_curves(results))

    if not train_in_turns(makers, plan, task.out, task.stop, show_curves):
        return False
    models = {name: trained(task.out / name, task.device) for name in CONTESTANTS}
    _measure(results, models, digits.test)
    write_plot(task.out / f"{NAME}-samples.png", _draw_samples(models, digits.test, task.seed))
    write_figures(path, results)
    write_plot(path.with_suffix(".png"), draw_curves(results))
    return True


def _plan(task: ExperimentConfig, scale: Scale, digits: Digits) -> Plan:
    recipe = TrainingConfig(batch=16, lr=LR, floor=0, flip=False, seed=task.seed, binarize=BINARIZE)
    validation = digits.held_out[: scale.validation]
    return Plan.of(digits.train, validation, recipe, scale.steps, scale.turns)


def _settings(task: ExperimentConfig, plan: Plan, digits: Digits) -> Results:
    """All that the figures depend on, beside the machine and the models."""
    return {
        "scale": task.scale,
        **plan.settings(),
        "test_images": len(digits.test),
        "size": list(digits.test.shape[2:]),
        "binarization": BINARIZATION,
        "checksum": digits.checksum,
    }


def make(name: str, task: ExperimentConfig | None = None) -> PixelModel:
    """An untrained model."""
    contestant, task = CONTESTANTS[name], task or ExperimentConfig(Path())
    torch.manual_seed(task.seed)
    return contestant.kind(**contestant.options, **SHARED).to(task.device)


def live_parameters(model: PixelModel) -> int:
    """Parameters that can matter: without the taps of convolutions that a mask shuts."""
    count = sum(parameter.numel() for parameter in model.parameters())
    for layer in model.modules():
        if isinstance(layer, MaskedConv2d):
            count -= layer.weight.numel() - int(layer.mask("cpu").sum())
    return count


def _facts(name: str) -> Results:
    model = make(name)
    return {"model": model.describe(), "parameters": live_parameters(model)}


def _read_curves(results: Results, out: Path) -> None:
    """What the logs of the models hold so far: nats of the held-out images, seconds, speed.

    The speed is that of the fastest stretch of steps: other work of the machine slows the rest.
    """
    height, width = results["settings"]["size"]
    nll = height * width * math.log(2)  # of one bit per dimension
    for name, facts in results["models"].items():
        log = read_log(out / name)
        facts["seconds"] = log[-1]["seconds"]
        speeds = [entry.get("images_per_second", 0) for entry in log]
        facts["images_per_second"] = max(speeds)
        facts["held_out"] = [
            [entry["step"], round(nll * entry["validation"]["model"], 3)]
            for entry in log
            if "validation" in entry
        ]


def _measure(results: Results, models: Mapping[str, PixelModel], test: Tensor) -> None:
    """Nats of the test images, and how far each model is from the first, image by image."""
    nll = {name: _nll(model, to_levels(test, model.levels)) for name, model in models.items()}
    first = next(iter(nll.values()))
    for name, facts in results["models"].items():
        facts["test"] = round(nll[name].mean().item(), 3)
        less = first - nll[name]
        facts["less_than_first"] = round(less.mean().item(), 3)
        facts["standard_error"] = round(less.std().item() / math.sqrt(len(less)), 3)


@torch.inference_mode()
def _nll(model: PixelModel, images: Tensor) -> Tensor:
    """``-log p`` of each image, float64 ``[N]``."""
    parts = track(images.split(BATCH), f"test nats, {type(model).__name__}", True)
    return torch.cat([model.nll(part.to(model.device)).double().cpu() for part in parts])


def _draw_samples(models: Mapping[str, PixelModel], test: Tensor, seed: int) -> Any:
    """A row of digits of each model, and one of the test images."""
    rows = {CONTESTANTS[name].title: _samples(model, seed) for name, model in models.items()}
    rows["test images"] = test[:SAMPLES]
    figure = canvas(7, 3.6)
    for axes, (title, images) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        strip = torch.nn.functional.pad(images[:, 0], (2, 2, 2, 2), value=128)
        axes.imshow(torch.cat(list(strip), 1).numpy(), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=9, loc="left", pad=2)
        axes.set_axis_off()
    return figure


def _samples(model: PixelModel, seed: int) -> Tensor:
    images = sample(model, SAMPLES, image_size=(SIDE, SIDE), seed=seed, progress=True)
    return from_levels(images.cpu(), model.levels)


def draw_curves(results: Results) -> Any:
    """Nats of the held-out images against the steps taken."""
    settings = results["settings"]
    figure = canvas(7, 4.2)
    axes = figure.add_subplot()
    curves = [facts["held_out"] for facts in results["models"].values()]
    for color, (name, facts) in zip(COLORS, results["models"].items(), strict=False):
        label = f"{CONTESTANTS[name].title}, {facts['parameters']:,} parameters"
        if "test" in facts:
            label += f": test {facts['test']:.2f}"
        steps, nll = zip(*facts["held_out"], strict=True)
        axes.plot(steps, nll, "o-", color=color, markersize=4, label=label)
    # The first steps would leave no room for what follows.
    top = max(curve[min(1, len(curve) - 1)][1] for curve in curves)
    axes.set_ylim(top=top + 1)
    tidy(axes, f"steps of {settings['recipe']['batch']} images", "nats an image")
    axes.set_title(
        f"Fixed binarization of MNIST: nats of {settings['held_out_images']:,} held-out digits",
        fontsize=10,
        loc="left",
    )
    axes.legend(frameon=False, fontsize=9)
    return figure


def section(results: Mapping[str, Any]) -> str:
    """The paragraph, table and images of the documents."""
    return "\n\n".join((_method(results), _table(results), _outcome(results), _images(results)))


def _method(results: Mapping[str, Any]) -> str:
    settings, models = results["settings"], results["models"]
    recipe = settings["recipe"]
    counts = sorted(facts["parameters"] for facts in models.values())
    minutes = sum(facts["seconds"] for facts in models.values()) / 60
    return (
        f"PixelCNN, Row LSTM and Diagonal BiLSTM of {counts[0]:,} to {counts[-1]:,} parameters "
        "(taps that a mask shuts are not counted), trained on binarized MNIST by one command on "
        f"one budget: {budget(settings)}{ALIKE}. The recurrent models have the paper's sizes for "
        f"MNIST, 7 layers of h = 16, in the Row LSTM 17 to even the counts; "
        f"{BUDGET_NOTES[settings['scale']]}. Training took {minutes:.0f} minutes in all on "
        f"{machine(results)}.\n\n"
        f"Measured is the average of the weights (decay {recipe['ema']:g}) of the best validation "
        f"on {settings['held_out_images']:,} held-out training images, once, on all "
        f"{settings['test_images']:,} test images, in nats an image. The binarization is "
        f"fixed: {settings['binarization']} (checksum `{settings['checksum']}`). The paper's is "
        "not known pixel by pixel, so that its second decimal is not comparable."
    )


def _table(results: Mapping[str, Any]) -> str:
    models = results["models"]
    first = CONTESTANTS[next(iter(models))].title
    header = ["", "a pixel sees", "parameters", "test nats", f"less than {first}", "paper"]
    header += ["trained in minutes", "images a second"]
    rows = []
    for k, (name, facts) in enumerate(models.items()):
        one = CONTESTANTS[name]
        less = f"{facts['less_than_first']:.2f} ± {facts['standard_error']:.2f}" if k else ""
        nll = [f"{facts['test']:.2f}", less, f"{one.paper:.2f}"]
        speed = [f"{facts['seconds'] / 60:.0f}", f"{facts['images_per_second']:.0f}"]
        rows.append([one.title, one.sees, f"{facts['parameters']:,}", *nll, *speed])
    return table(header, rows)


def _outcome(results: Mapping[str, Any]) -> str:
    """Whether the order is the paper's, in words."""
    models = results["models"]
    ours = sorted(models, key=lambda name: models[name]["test"])
    paper = sorted(models, key=lambda name: CONTESTANTS[name].paper)
    titles = [CONTESTANTS[name].title for name in ours]
    order = f"{titles[0]} before {titles[1]} before {titles[2]}"
    verdict = (
        "as in the paper: the wider receptive field wins here too"
        if ours == paper
        else "which is not the paper's order (Diagonal BiLSTM, Row LSTM, PixelCNN)"
    )
    return (
        f"The order is {order}, {verdict}. ± is the standard error of the mean difference over the "
        "test images; one seed was trained, so that it says nothing of other first weights. "
        "Minutes are wall time, validations included, beside whatever else the machine did; "
        "images a second are those of the fastest 50 steps, hardly disturbed."
    )


def _images(results: Mapping[str, Any]) -> str:
    return "\n\n".join(
        (
            image(NAME, "Learning curves"),
            image(f"{NAME}-samples", "Digits drawn by each model, and test images"),
            again(results),
        )
    )
