"""The command `pixelsr complete`."""

from pathlib import Path
from typing import Any

import click

from pixelsr.config.choices import MAX_SIDE

from .help import examples
from .options import (
    PATH,
    box_option,
    count_option,
    images_out_option,
    model_option,
    photos_argument,
    samples_option,
    sampling_options,
)
from .run import run

KEEP = ("upper", "lower", "left", "right")
LOW_RES_OF = ("visible", "whole")


@click.command(
    short_help="Keep a part of each photo and draw the rest.",
    epilog=examples(
        "pixelsr complete me.jpg --mask scratch.png -o out",
        "pixelsr complete photos/ --keep upper -o out",
    ),
)
@photos_argument
@images_out_option
@samples_option
@click.option(
    "--keep",
    type=click.Choice(KEEP),
    help="The half of each photo to keep; the other is drawn.  [default: upper]",
)
@click.option(
    "--mask",
    metavar="MASK",
    type=PATH,
    help="An image, white where pixels are to be drawn and black where they are kept, of the "
    "size of the photo or of --size; instead of --keep.",
)
@count_option(
    "--size",
    most=MAX_SIDE,
    help="Side of the images, in pixels.  [default: as the model was trained]",
)
@click.option(
    "--low-res-of",
    type=click.Choice(LOW_RES_OF),
    help="Source of the small image of a PixelRecursiveSR: the kept pixels, or the whole photo, "
    "hidden pixels included.  [default: visible with --mask, whole with --keep]",
)
@model_option("faces-8x32")
@box_option
@sampling_options
def complete(keep: str | None, mask: Path | None, **options: Any) -> None:
    """Keep a part of each PHOTO and draw the rest.

    The command cuts the center square (or --box) out of each photo and averages it down to --size.
    The mask is cut in the same way, and a pixel is drawn if any part of it is marked, that is, mid
    gray or lighter. Pixels that are kept do not change. If PHOTO is a folder, the command takes
    all images below it.

    A PixelRecursiveSR, such as the bundled model, also sees a small image of 8x8 pixels. With
    --mask, the small image is made of the pixels that are kept, and of a smooth guess where none
    are: this mends scratches and small holes. With --keep, it is made of the whole photo, so the
    other half is drawn anew from 8x8 pixels. --low-res-of overrides this choice. If the model knows
    nothing of half a face, that half comes out as a blur.

    Pixels are drawn row by row, from left to right. A kept pixel below or to the right of a drawn
    one influences it only through the small image, so the lower and right borders of a hole may
    show as seams.

    For a model of 2 levels, photos become black and white in the way that the model was trained
    (each as image 0 of a data set). If the model does not say how, values from 128 on are white.

    The command writes the images as OUT/<photo>-1.png and so on. OUT/sheet.png shows the images of
    the first 24 photos side by side, with the kept pixels and the original. OUT is a folder.

    Under `torchrun` the workers share the samples, and the images are the same.
    """
    if mask is not None and keep is not None:
        raise click.UsageError("--mask says what to keep: give --mask or --keep, not both")
    run("complete", keep=keep or KEEP[0], mask=mask, **options)
