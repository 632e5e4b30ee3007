"""The command `python -m experiments`."""

from pathlib import Path
from typing import Any

import click

from pixelsr.cli.commands.help import examples
from pixelsr.cli.commands.options import (
    PATH,
    count_option,
    device_option,
    model_option,
    out_option,
    threads_option,
)
from pixelsr.cli.commands.run import set_threads
from pixelsr.cli.errors import EndsWithSentence
from pixelsr.utils.signals import Interrupt

from . import EXPERIMENTS, SCALES, ExperimentConfig, run

LIST = "\n".join(f"      {name}: {about}" for name, about in EXPERIMENTS.items())


@click.command(
    "experiments",
    cls=EndsWithSentence,
    context_settings={"help_option_names": ["-h", "--help"]},
    short_help="Run an experiment of docs/results.md from its data.",
    help=f"""Run an experiment of docs/results.md from its data.

    \b
{LIST}

    The command writes the results as JSON, plots and samples as PNG files, and a folder for each
    trained model into OUT. Ctrl-C saves and ends; the same command continues.

    faces and completion also measure --model, and real-or-fake draws from it without training.
    The other experiments use only the models that they train.
    """,
    epilog=examples(
        "python -m experiments receptive-field --data data/ --out out",
        "python -m experiments faces --data data/ --out out --scale paper --device cuda",
    ),
)
@click.argument("name", metavar="NAME", type=click.Choice(list(EXPERIMENTS)))
@out_option("Output folder.")
@click.option(
    "--data",
    metavar="FOLDER",
    type=PATH,
    help="Folder that holds mnist/ (the idx files of MNIST, gzipped or not) and faces/ (folders of "
    "images, train/ and val/), or the one of these two that the experiment needs.",
)
@model_option("faces-8x32")
@click.option(
    "--scale",
    type=click.Choice(SCALES),
    default=SCALES[0],
    show_default=True,
    help="small is for a few CPU cores; paper has the published sizes and is for a GPU.",
)
@device_option("Device that trains and draws; auto is cuda if available.")
@count_option("--steps", help="Training steps of each model.  [default: as --scale sets]")
@count_option(
    "--seed",
    default=0,
    least=0,
    most=2**63 - 1,
    help="Seed of initial weights, image order and draws.",
)
@threads_option(expose_value=False)
def experiment(name: str, out: Path, device: str, **options: Any) -> None:
    # Imported here, since they import torch and the help does not need it.
    from pixelsr.cli.distributed import check_device, find_device
    from pixelsr.cli.files import check_folder
    from pixelsr.utils.system import keep_freed_memory

    set_threads()
    keep_freed_memory()
    check_device(device)
    check_folder(out)
    with Interrupt() as interrupt:
        chosen = find_device(device)
        config = ExperimentConfig(out, device=chosen, stop=lambda: interrupt.requested, **options)
        finished = run(name, config)
    if finished:
        click.echo(f"Done: results and plots are in {out}.")
    else:
        click.echo(f"Saved in {out}: the same command continues.")
        raise click.exceptions.Exit(128 + (interrupt.number or 0))


if __name__ == "__main__":
    experiment(prog_name="python -m experiments")
