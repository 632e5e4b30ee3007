"""The work of `pixelsr train`."""

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from pixelsr.data.binarize import check_binarize
from pixelsr.data.load import load_images, spread
from pixelsr.data.sources import common_side
from pixelsr.models import PixelModel, PixelRecursiveSR
from pixelsr.training import Budget, Intervals, RunDir, Trainer, TrainingConfig
from pixelsr.training import run_dir as boards
from pixelsr.training.loss import check_size
from pixelsr.training.progress import Display
from pixelsr.utils.atomic_write import real_path
from pixelsr.utils.distributed import Workers
from pixelsr.utils.signals import Interrupt
from pixelsr.utils.system import keep_freed_memory

from .commands.model_options import NAMES
from .commands.train_options import CONFIG_FIELDS, PAPERS_LR, SIZE
from .config_file import write_config
from .distributed import check_device, on_main_process, worker_group
from .errors import warn
from .train_model import check_training_memory, describe, make_model


def run(context: click.Context, out: Path, resume: bool, **options: Any) -> None:
    keep_freed_memory()
    with worker_group(options["device"]) as (workers, device):
        finished, asked = _run(context, out, resume, options, workers, device)
    if not finished:
        raise click.exceptions.Exit(128 + asked if asked else 1)


def _run(
    context: click.Context,
    out: Path,
    resume: bool,
    options: dict[str, Any],
    workers: Workers,
    device: torch.device,
) -> tuple[bool, int]:
    """Train; return whether the budget was used, and the signal that ended the run, or 0."""
    _check_options(options, out)
    config = _config(options)
    budget = Budget(options["steps"], options["minutes"], options["patience"])
    every = (options[f"{name}_every"] for name in ("log", "validate", "checkpoint"))
    options["size"] = options["size"] or on_main_process(workers, lambda: _side(options["images"]))
    torch.manual_seed(config.seed)
    sizes = {name: options[name] for name in NAMES}
    check_training_memory(sizes)
    model = make_model(sizes).to(device)
    _check_model(model, options)
    files = on_main_process(workers, lambda: RunDir(out, resume=resume))
    with files.start():
        images, validation = _load(options, model, files, workers)
    config = _fitted(config, len(images), workers)
    with Interrupt(workers.count == 1) as interrupt:
        trainer = Trainer(
            model,
            images,
            validation,
            files,
            config,
            budget,
            Intervals(*every),
            Display(speaks=workers.is_first),
            stop=lambda: interrupt.requested,
            workers=workers,
            grid=options["grid"],
            tensorboard=_wants_tensorboard(options),
        )
        with files.start():
            files.save_config(write_config(context.command, _resolved(options, model, config)))
            _say_start(trainer)
        before = trainer.state.step, trainer.best.measured
        finished = trainer.run()
        _say_end(trainer, finished, before, out)
        asked: int = max(workers.gather(interrupt.number or 0))  # waits: they end together
    return finished, asked


def _check_options(options: dict[str, Any], out: Path) -> None:
    check_device(options["device"])
    if options["tensorboard"] and not boards.is_installed():
        raise ValueError("--tensorboard: TensorBoard is not installed; pip install tensorboard")
    folders = (real_path(out), *real_path(out).parents)
    for name in ("images", "val"):
        if options[name] and real_path(options[name]) in folders:
            raise ValueError(
                f"{out} lies in {options[name]}: what the run writes would be read as images"
            )


def _side(where: str) -> int:
    """Return the side of the images where --size does not give it; say so if it is not `SIZE`."""
    side = common_side(where, SIZE)
    if side != SIZE:
        warn(f"--size is {side}: that is the side of all images in {where}")
    return side


def _check_model(model: PixelModel, options: dict[str, Any]) -> None:
    check_size(model, (options["size"], options["size"]))
    check_binarize(model.levels, options["binarize"])
    if options["conditioning_weight"] != 1 and not isinstance(model, PixelRecursiveSR):
        raise ValueError(
            f"--conditioning-weight weighs A against B, and a {type(model).__name__} has but one"
        )


def _resolved(options: dict[str, Any], model: PixelModel, config: TrainingConfig) -> dict[str, Any]:
    """Return all options without defaults, with files as absolute paths."""
    sizes = {} if options["start"] else describe(model)
    paths = {
        name: os.path.abspath(options[name])
        for name in ("images", "val", "start")
        if options[name] and os.path.exists(options[name])
    }
    return options | sizes | paths | dataclasses.asdict(config)


def _say_start(trainer: Trainer) -> None:
    images, step = len(trainer.images), trainer.state.step
    parameters = sum(parameter.numel() for parameter in trainer.state.model.parameters())
    trainer.display.say(f"{images:,} images, {parameters:,} parameters, from step {step}")


def _say_end(trainer: Trainer, finished: bool, before: tuple[int, int], out: Path) -> None:
    """Say how a run has ended; `before` is the step and the validated step at its start."""
    step, patience = trainer.state.step, trainer.budget.patience
    if not finished:
        sentence = f"Saved at step {step}: the same command with --resume goes on."
    elif trainer.best.is_stale(patience):
        sentence = f"Stopped after {step} steps, {patience} validations without a new best: "
        sentence += f"the best model is in {out / 'model'}."
    elif (step, trainer.best.measured) == before:
        sentence = f"Nothing was left to do after {step} steps: the model is in {out / 'model'}."
    else:
        sentence = f"Done after {step} steps: the model is in {out / 'model'}."
    trainer.display.say(sentence)


def _config(options: dict[str, Any]) -> TrainingConfig:
    given = {name: options[name] for name in CONFIG_FIELDS if options[name] is not None}
    if given["optimizer"] == "rmsprop":
        given = {"lr": PAPERS_LR, "schedule": "halving"} | given
    try:
        return TrainingConfig(**given)
    except ValueError as error:
        name, rest = str(error).split(" ", 1)
        raise ValueError(f"--{name.replace('_', '-')} {rest}") from None


def _fitted(config: TrainingConfig, images: int, workers: Workers) -> TrainingConfig:
    """Return the config with its batch reduced if there are too few images, and say so."""
    batch = images // (config.accumulate * workers.count)
    if not 1 <= batch < config.batch:  # of none at all, the trainer says what it needs
        return config
    if workers.is_first:
        warn(f"--batch {config.batch}: there are {images:,} images, so it is {batch}")
    return dataclasses.replace(config, batch=batch)


def _wants_tensorboard(options: dict[str, Any]) -> bool:
    wanted: bool | None = options["tensorboard"]
    return boards.is_installed() if wanted is None else wanted


def _load(
    options: dict[str, Any], model: PixelModel, files: RunDir, workers: Workers
) -> tuple[Tensor, Tensor | None]:
    """Return the training and validation images; the first worker prepares, all map them.

    A resumed run keeps its images, and is refused if the given ones differ.
    """

    def load(where: str, name: str) -> Tensor:
        read = partial(
            load_images,
            where,
            options["size"],
            colors=model.colors,
            workers=options["workers"],
            store=files.out / "images" / name,
            replace=not files.resume,
        )
        prepared: list[Tensor] = []

        def prepare() -> int:
            prepared.append(read(warn))
            return len(prepared)

        on_main_process(workers, prepare)
        return prepared[0] if prepared else read(_ignore)

    val = options["val"]
    validation = spread(load(val, "val"), options["val_images"]) if val else None
    return load(options["images"], "train"), validation


def _ignore(sentence: str) -> None:
    pass
