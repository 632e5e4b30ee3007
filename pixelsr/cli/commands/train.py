"""The command `pixelsr train`."""

from typing import Any

import click

from .help import GroupedCommand, examples
from .options import TEXT
from .run import run
from .train_options import train_options


@click.command(
    cls=GroupedCommand,
    short_help="Train a model on images of your own.",
    epilog=examples(
        "pixelsr train photos/ --val more/ -o run --minutes 90",
        "pixelsr train photos/ -o prior --model GatedPixelCNN --steps 20000",
    ),
)
@click.argument("images", type=TEXT)
@train_options
@click.pass_context
def train(context: click.Context, /, **options: Any) -> None:
    """Train a model on IMAGES.

    IMAGES is a folder of images, searched through; a file of MNIST's kind, gzipped or not, or
    the folder that holds it; or hf:NAME, a data set of Hugging Face. Every image's center square
    is averaged down to --size; the small images that a PixelRecursiveSR enlarges are averages of
    those. Default sizes are the papers'.

    Ends after --steps or --minutes, whichever comes first, or with --patience. Ctrl-C saves a
    checkpoint and ends, and `pixelsr train --resume -o OUT` goes on from there. OUT/model holds the
    averaged weights of the best validation, for `pixelsr enlarge --model OUT/model`; OUT/log.jsonl
    the figures, OUT/samples what was drawn on the way.

    Under `torchrun` each worker takes --batch images a step.
    """
    run("train", context=context, **options)
