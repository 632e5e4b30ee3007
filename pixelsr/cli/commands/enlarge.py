"""The command `pixelsr enlarge`."""

from typing import Any

import click

from .help import examples
from .options import (
    box_option,
    model_option,
    out_option,
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
@out_option
@samples_option
@model_option("faces-8x32")
@box_option
@sampling_options
def enlarge(**options: Any) -> None:
    """Draw larger images that each PHOTO, made small, may have come from.

    Of each photo the center square (or --box) is averaged down to the small size that the model was
    trained for, 8x8 for the bundled one; an image that has this size already is taken as it is.
    Faces should fill the square. A PHOTO that is a folder stands for all images below it.

    Writes each drawn image as OUT/<photo>-1.png and so on, and all of them side by side, with the
    input and the original, as OUT/sheet.png, which shows the first 24 photos. OUT is a folder.

    Under `torchrun` the workers share the samples; the images are the same.
    """
    run("enlarge", **options)
