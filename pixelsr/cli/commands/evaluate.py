"""The command `pixelsr evaluate`."""

from typing import Any

import click

from .help import examples
from .options import (
    BINARIZE,
    BINARIZE_HELP,
    PATH,
    READERS,
    TEXT,
    engine_option,
    model_option,
    seed_option,
    temperature_options,
    threads_option,
)
from .run import run

SIZE = 32
"""Side of the images, in pixels, where a model does not tell the size that it was trained at."""


@click.command(
    short_help="Measure a model on images that it has not seen.",
    epilog=examples(
        "pixelsr evaluate more/ --model run/model",
        "pixelsr evaluate more/ --model run/model --train photos/ --json report.json",
    ),
)
@click.argument("folder", type=TEXT)
@model_option()
@click.option(
    "--train",
    metavar="FOLDER",
    type=TEXT,
    help="Images that the model was trained on: the nearest of them is a baseline.",
)
@click.option(
    "--samples",
    default=1,
    show_default=True,
    metavar="K",
    type=click.IntRange(min=1),
    help="Drawn of each image that is enlarged.",
)
@click.option(
    "--max-images",
    default=64,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=1),
    help="To enlarge, spread evenly over FOLDER; all where there are fewer.",
)
@click.option(
    "--batch",
    default=32,
    show_default=True,
    metavar="B",
    type=click.IntRange(min=1),
    help="Images at once: fewer save memory.",
)
@seed_option
@temperature_options
@engine_option
@threads_option
@click.option(
    "--size",
    metavar="S",
    type=click.IntRange(min=1),
    help=f"Side of the images, in pixels.  [default: as the model was trained, or {SIZE}]",
)
@click.option(
    "--binarize",
    type=BINARIZE,
    help=f"{BINARIZE_HELP}  [default: as the images that the model was trained on]",
)
@click.option(
    "--workers",
    default=0,
    show_default=True,
    metavar="W",
    type=READERS,
    help="Processes that read the images; 0 reads them in this one.",
)
@click.option(
    "--json",
    metavar="FILE",
    type=PATH,
    help="File to write every figure to, unrounded; one of the same name is written over.",
)
def evaluate(**options: Any) -> None:
    """Measure a model on the images in FOLDER, which it should not have been trained on.

    Prints bits per dimension: what the model needs, on average, to name one value of an image;
    and nats per image. Of a model that enlarges, it also makes --max-images of them small, enlarges
    them, and prints how near the results are to the true images, beside bicubic interpolation
    and, with --train, the training image that looks most alike when small.

    A model of fewer levels than 256 is measured on images quantized to them, which is printed:
    bits of other levels do not compare. For 2 levels, gray images are binarized as they were for
    the model's training, or as --binarize says.

    FOLDER, and that of --train, may also be a file or a data set that `pixelsr train` reads.

    Runs in one process: `torchrun` would repeat the same work in each of its own.
    """
    run("evaluate", **options)
