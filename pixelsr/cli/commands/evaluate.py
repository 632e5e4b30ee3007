"""The command `pixelsr evaluate`."""

from typing import Any

import click

from .help import examples
from .options import (
    BINARIZE,
    BINARIZE_HELP,
    MOST_READERS,
    PATH,
    TEXT,
    count_option,
    engine_option,
    model_option,
    seed_option,
    temperature_options,
    threads_option,
)
from .run import run

SIZE = 32
"""Side of the images, in pixels, if the model does not name the size of its training."""


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
@count_option(
    "--samples", default=1, metavar="K", help="Number of samples for each enlarged image."
)
@count_option(
    "--max-images",
    default=64,
    help="Largest number of images to enlarge, spread evenly over FOLDER.",
)
@count_option("--batch", default=32, metavar="B", help="Images at once: fewer save memory.")
@seed_option
@temperature_options
@engine_option
@threads_option(expose_value=False)
@count_option(
    "--size",
    metavar="S",
    help=f"Side of the images, in pixels.  [default: as the model was trained, or {SIZE}]",
)
@click.option(
    "--binarize",
    type=BINARIZE,
    help=f"{BINARIZE_HELP}  [default: as the images that the model was trained on]",
)
@count_option(
    "--workers",
    default=0,
    least=0,
    most=MOST_READERS,
    metavar="W",
    help="Processes that read the images; 0 reads them in this one.",
)
@click.option(
    "--json",
    metavar="FILE",
    type=PATH,
    help="File for all results, unrounded; an existing file is replaced.",
)
def evaluate(**options: Any) -> None:
    """Measure a model on the images in FOLDER, which it should not have been trained on.

    The command prints bits per dimension, the average number of bits that the model needs for one
    value of an image, and nats per image. With a model that enlarges, it also makes up to
    --max-images images small, enlarges them, and prints how close the results are to the true
    images. Baselines are bicubic interpolation and, with --train, the training image whose small
    version is most similar.

    A model of fewer than 256 levels is measured on images quantized to its levels, and the output
    says so: bits of different numbers of levels cannot be compared. For 2 levels, gray images are
    binarized as in the training of the model, or as --binarize says.

    FOLDER and --train also accept every file and data set that `pixelsr train` reads.

    The command runs in one process; under `torchrun` each process would repeat the same work.
    """
    run("evaluate", **options)
