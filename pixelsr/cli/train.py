"""`pixelsr train`."""

from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from ..data.levels import to_levels
from ..data.load import load_pictures
from ..distributed import Workers, workers
from ..models import PixelModel
from ..training import Budget, Intervals, Recipe, RunFiles, Trainer
from ..training import tensorboard as boards
from ..training.interrupt import Interrupt
from ..training.memory import keep_freed_memory
from ..training.objective import check_size
from ..training.progress import display
from .config_file import write_config
from .grouped import GroupedCommand
from .team import find_device
from .train_model import NAMES, describe, make_model
from .train_options import OF_RECIPE, PAPERS_LR, train_options


@click.command(cls=GroupedCommand, short_help="Train a model on pictures of your own.")
@click.argument("pictures")
@train_options
@click.pass_context
def train(context: click.Context, /, out: Path, resume: bool, **options: Any) -> None:
    """Train a model on PICTURES.

    PICTURES is a folder of pictures, searched through; a file of MNIST's kind, gzipped or not; or
    hf:NAME, a data set of Hugging Face. Every picture's centre square is averaged down to --size;
    the small pictures that a PixelRecursiveSR enlarges are averages of those. Default sizes are
    the papers'.

    Ends after --steps or --minutes, whichever comes first, or with --patience. Ctrl-C saves a
    checkpoint and ends, and --resume goes on from there. OUT/model holds the averaged weights of
    the best validation, for `pixelsr enlarge --model OUT/model`; OUT/log.jsonl the figures,
    OUT/samples what was drawn on the way.

    Under `torchrun` each worker takes --batch pictures a step.
    """
    keep_freed_memory()
    recipe = _recipe(options)
    budget = Budget(options["steps"], options["minutes"], options["patience"])
    intervals = Intervals(*(options[f"{name}_every"] for name in ("log", "validate", "checkpoint")))
    board = _tensorboard(options["tensorboard"])
    device = _find_device(options["device"])
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    torch.manual_seed(recipe.seed)
    model = make_model({name: options[name] for name in NAMES}).to(device)
    check_size(model, (options["size"], options["size"]))
    sizes = {} if options["start"] else describe(model)
    resolved = options | sizes | {name: getattr(recipe, name) for name in OF_RECIPE}
    with workers(device) as team:
        files = RunFiles(out, resume=resume, writes=team.is_first)
        images, validation = _load(options, model, out, team)
        with Interrupt() as interrupt:
            trainer = Trainer(
                model,
                images,
                validation,
                files,
                recipe,
                budget,
                intervals,
                display(team.is_first),
                stop=lambda: interrupt.requested,
                workers=team,
                grid=options["grid"],
                tensorboard=board,
            )
            files.save_config(write_config(context.command, resolved))
            _say_start(trainer)
            finished = trainer.run()
    done = f"Done after {trainer.state.step} steps: the model is in {out / 'model'}."
    stopped = f"Saved at step {trainer.state.step}: the same command with --resume goes on."
    trainer.display.say(done if finished else stopped)


def _say_start(trainer: Trainer) -> None:
    pictures, step = len(trainer.images), trainer.state.step
    parameters = sum(parameter.numel() for parameter in trainer.state.model.parameters())
    trainer.display.say(f"{pictures:,} pictures, {parameters:,} parameters, from step {step}")


def _recipe(options: dict[str, Any]) -> Recipe:
    given = {name: options[name] for name in OF_RECIPE if options[name] is not None}
    if given["optimizer"] == "rmsprop":
        given = {"lr": PAPERS_LR, "schedule": "halving"} | given
    return Recipe(**given)


def _tensorboard(wanted: bool | None) -> bool:
    if wanted and not boards.is_installed():
        raise ValueError("--tensorboard: TensorBoard is not installed; pip install tensorboard")
    return boards.is_installed() if wanted is None else wanted


def _load(
    options: dict[str, Any], model: PixelModel, out: Path, team: Workers
) -> tuple[Tensor, Tensor | None]:
    """The pictures to train and to validate on, read by the first worker, then mapped by all."""

    def load(where: str, name: str) -> Tensor:
        if not team.is_first:
            team.wait()
        pictures = load_pictures(
            where,
            options["size"],
            _warn if team.is_first else _ignore,
            colours=model.colours,
            workers=options["workers"],
            store=out / "pictures" / name,
        )
        if team.is_first:
            team.wait()
        return to_levels(pictures, model.levels)

    val = options["val"]
    return load(options["pictures"], "train"), load(val, "val") if val else None


def _find_device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no CUDA device on this machine")
    return find_device(device)


def _warn(sentence: str) -> None:
    click.echo(sentence, err=True)


def _ignore(sentence: str) -> None:
    pass
