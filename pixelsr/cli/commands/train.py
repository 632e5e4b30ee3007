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

    IMAGES is a folder that is searched for images; an idx file as of MNIST, gzipped or not, or its
    folder; or hf:NAME, a data set of Hugging Face. The center square of each image is averaged
    down to --size, and a PixelRecursiveSR enlarges area averages of these. The default sizes are
    those of the papers.

    Training ends after --steps or --minutes, whichever comes first, or by --patience. Ctrl-C saves
    a checkpoint and ends; `pixelsr train --resume -o OUT` continues the run. OUT/model holds the
    averaged weights of the best validation, for `pixelsr enlarge --model OUT/model`. OUT/log.jsonl
    holds the metrics, and OUT/samples the samples drawn during training.

    Under `torchrun` each worker takes --batch images in a step.
    """
    if options["steps"] is None and options["minutes"] is None:
        raise click.UsageError("a training run needs an end: give --steps, --minutes or both")
    if options["patience"] and not options["val"]:
        raise click.UsageError("--patience counts validations: give images to validate on, --val")
    run("train", context=context, **options)
