"""The likelihood of binarized MNIST for models with different receptive fields.

PixelCNN, Row LSTM and Diagonal BiLSTM (van den Oord, Kalchbrenner, Kavukcuoglu; 1601.06759) of
equal parameter count are trained on one budget: steps, batch, optimizer, learning rates, seed and
order of the images are the same. The averaged weights of the best validation are measured once, on
all test images.
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
from .support.digits import BINARIZATION, BINARIZE, SIDE, load_digits
from .support.image_split import ImageSplit
from .support.interleaved_training import TrainingPlan, read_log, train_in_turns, trained
from .support.plots import COLORS, canvas, check_installed, tidy, write_plot
from .support.results import FINISHED, Results, begin, write_results

NAME = "receptive-field"
SAMPLES = 10
"""The number of digits drawn from each model."""
BATCH = 100
"""The number of images in a batch outside training; no result depends on it."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model class with its options, and the model's name in plots."""

    kind: type[PixelModel]
    options: dict[str, int]
    title: str


@dataclasses.dataclass(frozen=True)
class Scale:
    """The training budget.

    Args:
        steps: training steps of each model.
        turns: number of turns; each ends with a measurement of the held-out images.
        validation: number of held-out images.
    """

    steps: int
    turns: int
    validation: int


CANDIDATES = {
    "PixelCNN": Candidate(PixelCNN, {"channels": 31, "layers": 8}, "PixelCNN"),
    "RowLSTM": Candidate(RowLSTM, {"channels": 17, "layers": 7}, "Row LSTM"),
    "DiagonalBiLSTM": Candidate(DiagonalBiLSTM, {"channels": 16, "layers": 7}, "Diagonal BiLSTM"),
}
"""The models, of equal parameter count; the last is the paper's best for MNIST."""
SHARED = {"head_channels": 32, "colors": 1, "levels": 2}
LR = 4e-3
BUDGETS = {"small": Scale(6_000, 15, 1_000), "paper": Scale(200_000, 40, 10_000)}


def run(config: ExperimentConfig) -> bool:
    """Train, measure and draw; see `experiments.run`."""
    check_installed()
    digits, scale = load_digits(config.images(NAME)), BUDGETS[config.scale]
    training_config = TrainingConfig(batch=16, lr=LR, floor=0, flip=False, binarize=BINARIZE)
    plan = TrainingPlan.of(
        config, digits, training_config, scale.steps, scale.turns, scale.validation
    )
    path = config.out / f"{NAME}.json"
    results = begin(config, NAME, _settings(config, plan, digits))
    if FINISHED in results:
        return True
    if "models" not in results:
        results["models"] = {name: _facts(name) for name in CANDIDATES}
    makers = {name: functools.partial(make, name, config) for name in CANDIDATES}

    def show_curves() -> None:
        _read_curves(results, config.out)
        write_results(path, results)
        write_plot(path.with_suffix(".png"), draw_curves(results))

    if not train_in_turns(makers, plan, config.out, config.stop, show_curves):
        return False
    models = {name: trained(config.out / name, config.device) for name in CANDIDATES}
    _measure(results, models, digits.test)
    write_plot(config.out / f"{NAME}-samples.png", _draw_samples(models, digits.test, config.seed))
    write_results(path, results)
    write_plot(path.with_suffix(".png"), draw_curves(results))
    return True


def _settings(config: ExperimentConfig, plan: TrainingPlan, digits: ImageSplit) -> Results:
    """Return all that the results depend on, except the machine and the models."""
    return {
        "scale": config.scale,
        **plan.settings(),
        "test_images": len(digits.test),
        "size": list(digits.test.shape[2:]),
        "binarization": BINARIZATION,
        "checksum": digits.checksum,
    }


def make(name: str, config: ExperimentConfig | None = None) -> PixelModel:
    """Return an untrained model."""
    candidate, config = CANDIDATES[name], config or ExperimentConfig(Path())
    torch.manual_seed(config.seed)
    return candidate.kind(**candidate.options, **SHARED).to(config.device)


def live_parameters(model: PixelModel) -> int:
    """Return the number of parameters, without the masked taps of convolutions."""
    count = sum(parameter.numel() for parameter in model.parameters())
    for layer in model.modules():
        if isinstance(layer, MaskedConv2d):
            count -= layer.weight.numel() - int(layer.mask("cpu").sum())
    return count


def _facts(name: str) -> Results:
    model = make(name)
    return {"model": model.describe(), "parameters": live_parameters(model)}


def _read_curves(results: Results, out: Path) -> None:
    """Read the logs of the models so far: nll of the held-out images, seconds and speed.

    The speed is the speed of the fastest logged steps: other work on the machine slows the rest.
    """
    height, width = results["settings"]["size"]
    nll = height * width * math.log(2)  # nll of one bit per dimension
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
    """Measure the nll of the test images, and its difference from the first model by image."""
    nll = {name: _nll(model, to_levels(test, model.levels)) for name, model in models.items()}
    first = next(iter(nll.values()))
    for name, facts in results["models"].items():
        facts["test"] = round(nll[name].mean().item(), 3)
        less = first - nll[name]
        facts["less_than_first"] = round(less.mean().item(), 3)
        facts["standard_error"] = round(less.std().item() / math.sqrt(len(less)), 3)


@torch.inference_mode()
def _nll(model: PixelModel, images: Tensor) -> Tensor:
    """Return ``-log p`` of each image, float64 ``[N]``."""
    parts = track(images.split(BATCH), f"test nll, {type(model).__name__}", True)
    return torch.cat([model.nll(part.to(model.device)).double().cpu() for part in parts])


def _draw_samples(models: Mapping[str, PixelModel], test: Tensor, seed: int) -> Any:
    """Draw a row of digits from each model, and a row of test images."""
    rows = {CANDIDATES[name].title: _samples(model, seed) for name, model in models.items()}
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
    """Draw the nll of the held-out images against the training steps."""
    settings = results["settings"]
    figure = canvas(7, 4.2)
    axes = figure.add_subplot()
    curves = [facts["held_out"] for facts in results["models"].values()]
    for color, (name, facts) in zip(COLORS, results["models"].items(), strict=False):
        label = f"{CANDIDATES[name].title}, {facts['parameters']:,} parameters"
        if "test" in facts:
            label += f": test {facts['test']:.2f}"
        steps, nll = zip(*facts["held_out"], strict=True)
        axes.plot(steps, nll, "o-", color=color, markersize=4, label=label)
    # The range begins at the second measurement: the first is much higher than the rest.
    top = max(curve[min(1, len(curve) - 1)][1] for curve in curves)
    axes.set_ylim(top=top + 1)
    tidy(axes, f"steps of {settings['config']['batch']} images", "nats an image")
    axes.set_title(
        f"Fixed binarization of MNIST: nats of {settings['held_out_images']:,} held-out digits",
        fontsize=10,
        loc="left",
    )
    axes.legend(frameon=False, fontsize=9)
    return figure
