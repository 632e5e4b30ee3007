"""The command `pixelsr enlarge`."""

from typing import Any

import click

from .help import examples
from .options import (
    box_option,
    images_out_option,
    model_option,
    photos_argument,
    samples_option,
    sampling_options,
)
from .run import run


@click.command(
    short_help="Draw larger images that small photos may have come from.",
    epilog=examples(
        "pixelsr enlarge me.jpg -o out --samples 6",
        "pixelsr enlarge photos/ -o out --model run/model --tau 1.1",
    ),
)
@photos_argument
@images_out_option
@samples_option
@model_option("faces-8x32")
@box_option
@sampling_options
def enlarge(**options: Any) -> None:
    """Draw larger images that each small PHOTO may have come from.

    The command cuts the center square (or --box) out of each photo and averages it down to the
    small size of the model, 8x8 for the bundled one. An image of this size is taken as it is.
    Faces should fill the square. If PHOTO is a folder, the command takes all images below it.

    The command writes the images as OUT/<photo>-1.png and so on. OUT/sheet.png shows the images of
    the first 24 photos side by side, with the input and the original. OUT is a folder.

    Under `torchrun` the workers share the samples, and the images are the same.
    """
    run("enlarge", **options)
