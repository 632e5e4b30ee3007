"""The command `pixelsr sample`."""

from typing import Any

import click

from .help import examples
from .options import SIZE, count_option, images_out_option, model_option, sampling_options
from .run import run


@click.command(
    short_help="Draw images from a prior alone.",
    epilog=examples(
        "pixelsr sample --model prior/model -n 64 -o out",
        "pixelsr sample --model prior/model -n 64 --first-index 64 -o more",
    ),
)
@images_out_option
@count_option("-n", "samples", default=16, most=10**6, help="Images to draw.")
@click.option("--size", **SIZE)
@count_option(
    "--first-index",
    default=0,
    least=0,
    most=2**63 - 1,
    help="Number of the first sample in the noise, from 0, to continue another run.",
)
@model_option()
@sampling_options
def sample(**options: Any) -> None:
    """Draw images from a prior, such as one trained by `pixelsr train --model GatedPixelCNN`.

    The command writes sample k as OUT/sample-<k + 1>.png, and all samples side by side as
    OUT/sheet.png. If the model has fewer than 256 levels, they are spread from black to white. OUT
    is a folder.

    Under `torchrun` the workers share the samples, and the images are the same.
    """
    run("sample", **options)
