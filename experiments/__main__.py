"""The command `python -m experiments`."""

from pathlib import Path
from typing import Any

import click
import torch
from pixelsr.cli.commands.help import examples
from pixelsr.cli.commands.options import PATH, model_option, threads_option

from pixelsr.cli.errors import EndsWithSentence
from pixelsr.cli.files import check_folder
from pixelsr.cli.on_main_process import find_device
from pixelsr.utils.signals import Interrupt
from pixelsr.utils.system import keep_freed_memory

from . import EXPERIMENTS, SCALES, ExperimentConfig, run

LIST = "\n".join(f"  {name}: {about}" for name, about in EXPERIMENTS.items())


@click.command(
    "experiments",
    cls=EndsWithSentence,
    short_help="Train and measure what the documents report, from the data on.",
    help=f"""Do one of the experiments of docs/results.md from the data on.

    \b
{LIST}

    OUT gets the figures as JSON, plots and samples as PNG files, and a folder for each model that
    is trained. Ctrl-C saves and ends; the same command goes on from there.

    faces and completion compare what they train with --model, and real-or-fake draws from it; the
    others train all that they need. real-or-fake trains nothing.
    """,
    epilog=examples(
        "python -m experiments receptive-field --data data/ --out out",
        "python -m experiments faces --data data/ --out out --scale paper --device cuda",
    ),
)
@click.argument("name", type=click.Choice(list(EXPERIMENTS)))
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    required=True,
    type=PATH,
    help="Folder to write, one for each experiment.",
)
@click.option(
    "--data",
    metavar="FOLDER",
    type=PATH,
    help="Holds mnist/, the idx files of MNIST, gzipped or not, and faces/, with train/ and val/, "
    "folders of images; or is that of the two which the experiment needs.",
)
@model_option("faces-8x32")
@click.option(
    "--scale",
    type=click.Choice(SCALES),
    default=SCALES[0],
    show_default=True,
    help="small is for a few CPU cores; paper, for a GPU, is as published or as long as that took.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto is cuda where there is one.",
)
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(min=1),
    help="Of each model.  [default: as the scale has it]",
)
@click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of first weights, order of the images and draws.",
)
@threads_option
def experiment(name: str, out: Path, device: str, **options: Any) -> None:
    keep_freed_memory()
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no CUDA device on this machine")
    check_folder(out)
    with Interrupt() as interrupt:
        where = find_device(device)
        task = ExperimentConfig(out, device=where, stop=lambda: interrupt.requested, **options)
        finished = run(name, task)
    if finished:
        click.echo(f"Done: figures and plots are in {out}.")
    else:
        click.echo(f"Saved in {out}: the same command goes on.")
        raise click.exceptions.Exit(128 + (interrupt.number or 0))


if __name__ == "__main__":
    experiment(prog_name="python -m experiments")
