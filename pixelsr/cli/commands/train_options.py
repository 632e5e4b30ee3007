"""The options of `pixelsr train`, under their headings."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pixelsr.cli.config_file import read_config
from pixelsr.config.choices import OPTIMIZERS, PRECISIONS, SCHEDULES
from pixelsr.config.training import Intervals, TrainingConfig, find_config

from .help import option_of
from .model_options import model_options
from .options import (
    BINARIZE,
    BINARIZE_HELP,
    MOST_READERS,
    PATH,
    TEXT,
    count_option,
    device_option,
    threads_option,
)

Options = tuple[Callable[..., Any], ...]
CONFIG_FIELDS = tuple(field.name for field in dataclasses.fields(TrainingConfig))
SIZE = 32
"""Side of the images, in pixels, unless all of them have one smaller size."""
VALIDATED = 1000
PAPERS_LR = 4e-4
"""The learning rate of RMSProp in the PRSR paper."""
DEFAULT_READERS = min(4, os.cpu_count() or 1)

_images, _config, _run = option_of("Images"), option_of("How to train"), option_of("The run")


def _count(option: Callable[..., Any], name: str, help: str, default: int | None = None) -> Any:
    """Return an option that is a positive int."""
    return count_option(name, help=help, default=default, option=option)


def _number(name: str, default: float | None, help: str, kind: Any = float) -> Any:
    return _config(name, metavar="X", type=kind, default=default, help=help)


def _read_options(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Read the file of --config; with --resume alone, read the config of the run."""
    if path is None and context.params["resume"]:
        own = find_config(context.params["out"])
        path = own if own.is_file() else None
    read_config(context, option, path)


def train_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the command, model first; `CONFIG_FIELDS` go to `TrainingConfig`."""
    for option in reversed((*_of_images(), model_options, *_of_config(), *_of_run())):
        command = option(command)
    return command


def _of_images() -> Options:
    return (
        _images("--val", metavar="IMAGES", type=TEXT, help="Images to validate on."),
        _count(
            _images,
            "--val-images",
            "Largest number of validation images, spread evenly over all.",
            VALIDATED,
        ),
        _count(
            _images,
            "--size",
            "Side of the images, in pixels.  "
            f"[default: {SIZE}, or less if all images have one smaller size]",
        ),
        _config_of_images(),
        _images("--binarize", type=BINARIZE, help=BINARIZE_HELP),
        _images(
            "--workers",
            metavar="N",
            type=click.IntRange(0, MOST_READERS),
            default=DEFAULT_READERS,
            show_default="one for each core, at most 4",
            help="Processes that read the images; 0 reads them in this process.",
        ),
    )


def _config_of_images() -> Any:
    return _images(
        "--flip/--no-flip",
        default=TrainingConfig.flip,
        help="Mirror half of the images, chosen at random.",
    )


def _of_config() -> Options:
    return (
        _count(_config, "--batch", "Images in a batch of one worker.", TrainingConfig.batch),
        _count(
            _config,
            "--accumulate",
            "Number of batches in one step.",
            TrainingConfig.accumulate,
        ),
        _config(
            "--optimizer",
            type=click.Choice(OPTIMIZERS),
            default=TrainingConfig.optimizer,
            help="The PRSR paper uses rmsprop, with decay 0.95 and momentum 0.9.",
        ),
        _number(
            "--lr",
            None,
            f"Peak learning rate.  [default: {TrainingConfig.lr}, of rmsprop {PAPERS_LR}]",
        ),
        _number("--weight-decay", TrainingConfig.weight_decay, "Weight decay of adamw."),
        _config(
            "--schedule",
            type=click.Choice(SCHEDULES),
            help="Learning rate schedule: a cosine down to --floor, or repeated halving.  "
            "[default: cosine, of rmsprop halving]",
        ),
        _number(
            "--warmup", TrainingConfig.warmup, "Steps until the peak of the learning rate.", int
        ),
        _number("--floor", TrainingConfig.floor, "End of the cosine, as a fraction of the peak."),
        _count(
            _config,
            "--halve-every",
            "Steps between two halvings of the learning rate.",
            TrainingConfig.halve_every,
        ),
        _number(
            "--clip",
            TrainingConfig.clip,
            "Largest norm of the gradient; larger ones are scaled down.",
        ),
        _number(
            "--ema",
            TrainingConfig.ema,
            "Decay of the moving average of the weights; 0 disables it.",
        ),
        _config(
            "--precision",
            type=click.Choice(PRECISIONS),
            default=TrainingConfig.precision,
            help="Dtype of the computation; weights stay float32.",
        ),
        _config(
            "--channels-last/--contiguous",
            default=TrainingConfig.channels_last,
            help="Memory format of weights and images.",
        ),
        _config(
            "--compile/--no-compile",
            default=TrainingConfig.compile,
            help="Run model and loss through torch.compile.",
        ),
        _number(
            "--conditioning-weight",
            TrainingConfig.conditioning_weight,
            "Weight of A in the A + B of a PixelRecursiveSR. More than the paper's 1 keeps samples "
            "closer to the small image, and costs some likelihood.",
        ),
        _number(
            "--seed",
            TrainingConfig.seed,
            "Seed of the first weights, the order of the images and the flips.",
            int,
        ),
    )


def _of_run() -> Options:
    return (
        _run(
            "-o",
            "--out",
            metavar="OUT",
            required=True,
            is_eager=True,  # --config reads it
            type=PATH,
            help="Folder to write, one for each run.",
        ),
        _count(_run, "--steps", "Number of steps to train."),
        _run("--minutes", metavar="M", type=float, help="Time to train, in minutes."),
        _count(
            _run,
            "--patience",
            "Number of validations without a new best after which training stops.",
        ),
        _run(
            "--resume",
            is_flag=True,
            is_eager=True,  # --config reads it
            show_default=False,
            help="Continue the run in OUT with its images and options; options that are "
            "given must agree with it.",
        ),
        _run(
            "--config",
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=_read_options,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="TOML file of options, such as OUT/model/training.toml of another run; "
            "options on the command line take precedence.  "
            "[default: with --resume the file of the run]",
        ),
        _count(_run, "--log-every", "Steps between two lines of the log.", Intervals.log),
        _count(_run, "--validate-every", "Steps between two validations.", Intervals.validate),
        _count(_run, "--checkpoint-every", "Steps between two checkpoints.", Intervals.checkpoint),
        count_option(
            "--grid",
            default=4,
            least=0,
            most=64,
            help="Number of images that each validation draws samples of; 0 draws none.",
            option=_run,
        ),
        _run(
            "--tensorboard/--no-tensorboard",
            default=None,
            help="Write curves and samples for TensorBoard.  [default: if it is installed]",
        ),
        threads_option(_run),
        device_option("auto is cuda if there is a GPU.", _run),
    )
