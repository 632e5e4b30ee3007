"""The command `pixelsr complete`."""

from pathlib import Path
from typing import Any

import click

from pixelsr.config.choices import MAX_SIDE

from .help import examples
from .options import (
    PATH,
    box_option,
    model_option,
    out_option,
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
@out_option
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
@click.option(
    "--size",
    metavar="N",
    type=click.IntRange(1, MAX_SIDE),
    help="Side of the images, in pixels.  [default: as the model was trained]",
)
@click.option(
    "--low-res-of",
    type=click.Choice(LOW_RES_OF),
    help="What a PixelRecursiveSR sees made small: the pixels that are kept, or the whole photo, "
    "hidden pixels included.  [default: visible with --mask, whole with --keep]",
)
@model_option("faces-8x32")
@box_option
@sampling_options
def complete(keep: str | None, mask: Path | None, **options: Any) -> None:
    """Keep a part of each PHOTO and draw the rest, as the model thinks that it may go on.

    Of each photo the center square (or --box) is averaged down to --size; the mask goes through the
    same cut, and a pixel is drawn if any part of it is marked: mid gray or lighter. What is kept
    comes back untouched. A PHOTO that is a folder stands for all images below it.

    A PixelRecursiveSR, such as the bundled model, also sees a small image, 8x8 pixels. With a
    mask it is made of what is kept, and where nothing is, of a smooth guess from around it: that
    mends scratches and small holes. With --keep it is made of the whole photo, so that the other
    half is drawn anew from 8x8 pixels. --low-res-of says otherwise; half a face of which nothing
    at all is known comes out as a blur.

    Pixels are drawn row by row, from left to right, and none is influenced by what is kept below it
    or to its right, but through the small image. So the lower and right borders of a hole may
    show as seams, and so may those of --keep lower and right.

    Of a model of 2 levels, photos are made black and white as the images that it was trained on
    were (each as image 0 of a data set); where the model does not tell, white from 128 on.

    Writes each completed image as OUT/<photo>-1.png and so on, and all of them side by side, with
    what was kept and the original, as OUT/sheet.png, which shows the first 24 photos. OUT is a
    folder.

    Under `torchrun` the workers share the samples; the images are the same.
    """
    if mask is not None and keep is not None:
        raise click.UsageError("--mask says what to keep: give --mask or --keep, not both")
    run("complete", keep=keep or KEEP[0], mask=mask, **options)
