"""`pixelsr train`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from ..data.folder import load_folder
from ..models import (
    ConditioningNetwork,
    ConditioningNetworkConfig,
    GatedPixelCNN,
    GatedPixelCNNConfig,
    PixelCNN,
    PixelCNNConfig,
    PixelModel,
    PixelRecursiveSR,
)
from ..training import Budget, Intervals, Recipe, Trainer
from ..training.interrupt import Interrupt
from ..training.memory import keep_freed_memory
from ..training.progress import display

PRIORS: dict[str, type[PixelModel]] = {"GatedPixelCNN": GatedPixelCNN, "PixelCNN": PixelCNN}
MODELS = ["PixelRecursiveSR", *PRIORS]
RECIPE = ("batch", "lr", "warmup", "ema", "flip", "seed")
PICTURES = click.Path(exists=True, file_okay=False, path_type=Path)


def _count(name: str, help: str, default: int | None = None) -> Callable[..., Any]:
    """An option that is a positive int."""
    return click.option(name, metavar="N", type=click.IntRange(min=1), default=default, help=help)


def _of_prior(name: str, field: str, help: str) -> Callable[..., Any]:
    gated, plain = getattr(GatedPixelCNNConfig, field), getattr(PixelCNNConfig, field)
    default = f"{gated}" if gated == plain else f"{gated}, of PixelCNN {plain}"
    return _count(name, f"{help}  [default: {default}]")


def _of_conditioning(name: str, field: str, help: str) -> Callable[..., Any]:
    return _count(name, f"{help}  [default: {getattr(ConditioningNetworkConfig, field)}]")


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=PICTURES)
@click.option("--val", metavar="FOLDER", type=PICTURES, help="Pictures to validate on.")
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write: checkpoint.safetensors, log.jsonl and model/.",
)
@_count("--steps", "Stop after so many steps.")
@click.option("--minutes", metavar="M", type=float, help="Stop after so much time.")
@click.option("--resume", is_flag=True, help="Go on with the run in OUT, given the same options.")
@click.option(
    "--model",
    metavar="CLASS",
    type=click.Choice(MODELS),
    default=MODELS[0],
    help=f"{MODELS[0]}, which enlarges, or a prior alone: {' or '.join(PRIORS)}.",
)
@_count("--size", "Side of the pictures, in pixels.", 32)
@_of_conditioning("--magnification", "magnification", "Large side over small side.")
@_of_prior("--channels", "channels", "Width of the prior.")
@_of_prior("--layers", "layers", "Depth of the prior.")
@_of_prior("--kernel-size", "kernel_size", "Of the prior's layers; odd.")
@_of_prior("--head-channels", "head_channels", "Between the prior's two output layers.")
@_of_conditioning("--conditioning-channels", "channels", "Width of the conditioning network.")
@_of_conditioning("--conditioning-blocks", "blocks", "Its residual blocks at each size.")
@_count("--batch", "Pictures a step.", Recipe.batch)
@click.option("--lr", type=float, default=Recipe.lr, help="Peak learning rate of AdamW.")
@click.option(
    "--warmup", metavar="N", type=int, default=Recipe.warmup, help="Steps until that peak."
)
@click.option("--ema", type=float, default=Recipe.ema, help="Decay of the average of the weights.")
@click.option("--flip/--no-flip", default=Recipe.flip, help="Mirror half of the pictures.")
@click.option(
    "--seed",
    metavar="N",
    type=int,
    default=Recipe.seed,
    help="Of the first weights, the order and the flips.",
)
@_count("--log-every", "Steps between two lines of the log.", Intervals.log)
@_count("--validate-every", "Steps between two validations.", Intervals.validate)
@_count("--checkpoint-every", "Steps between two checkpoints.", Intervals.checkpoint)
@_count("--threads", "Of the CPU.  [default: one for each core]")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="auto is cuda where there is one.",
)
def train(
    folder: Path,
    val: Path | None,
    out: Path,
    steps: int | None,
    minutes: float | None,
    resume: bool,
    size: int,
    log_every: int,
    validate_every: int,
    checkpoint_every: int,
    threads: int | None,
    device: str,
    **options: Any,
) -> None:
    """Train a model on the pictures in FOLDER.

    Every picture's centre square is averaged down to --size; the small pictures that a
    PixelRecursiveSR enlarges are averages of those. Default sizes are the papers'.

    Ends after --steps or --minutes, whichever comes first; the learning rate falls with the part
    of them that is used. Ctrl-C saves a checkpoint and ends, and --resume goes on from there.
    OUT/model holds the averaged weights, for `pixelsr enlarge --model OUT/model`.
    """
    keep_freed_memory()
    budget = Budget(steps, minutes)
    recipe = Recipe(**{name: options.pop(name) for name in RECIPE})
    intervals = Intervals(log_every, validate_every, checkpoint_every)
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(recipe.seed)
    model = _make_model(**options).to(_find_device(device))
    _check_size(model, size)
    images = load_folder(folder, size, _warn)
    validation = load_folder(val, size, _warn) if val else None
    with Interrupt() as interrupt:
        trainer = Trainer(
            model,
            images,
            validation,
            out,
            recipe,
            budget,
            intervals,
            display(),
            resume=resume,
            stop=lambda: interrupt.requested,
        )
        parameters = sum(parameter.numel() for parameter in model.parameters())
        click.echo(
            f"{len(images):,} pictures, {parameters:,} parameters, from step {trainer.state.step}"
        )
        finished = trainer.run()
    done = f"Done after {trainer.state.step} steps: the model is in {out / 'model'}."
    stopped = f"Saved at step {trainer.state.step}: the same command with --resume goes on."
    click.echo(done if finished else stopped)


def _make_model(
    model: str,
    magnification: int | None,
    conditioning_channels: int | None,
    conditioning_blocks: int | None,
    **prior: int | None,
) -> PixelModel:
    """A model of the given sizes; None is the paper's."""
    conditioning = _given(
        magnification=magnification, channels=conditioning_channels, blocks=conditioning_blocks
    )
    if model == "PixelRecursiveSR":
        return PixelRecursiveSR(
            GatedPixelCNN(**_given(**prior)), ConditioningNetwork(**conditioning)
        )
    if conditioning:
        raise ValueError(
            f"{model} is a prior alone, without a conditioning network: --magnification, "
            "--conditioning-channels and --conditioning-blocks are for PixelRecursiveSR"
        )
    return PRIORS[model](**_given(**prior))


def _given(**options: int | None) -> dict[str, int]:
    return {name: value for name, value in options.items() if value is not None}


def _find_device(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no CUDA device on this machine")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _check_size(model: PixelModel, size: int) -> None:
    if isinstance(model, PixelRecursiveSR) and size % model.magnification:
        raise ValueError(
            f"--size {size} is not a multiple of the magnification, {model.magnification}"
        )


def _warn(sentence: str) -> None:
    click.echo(sentence, err=True)
