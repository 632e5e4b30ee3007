"""The command `pixelsr bench`."""

from collections.abc import Callable
from typing import Any

import click

from pixelsr.config.choices import ENGINES

from .help import GroupedCommand, examples, option_of
from .options import MODEL_HELP, PATH, SIZE, count_option, threads_option
from .run import run

MAX_BATCH = 4096
_what, _how, _results = option_of("What to measure"), option_of("How"), option_of("Results")
Callback = Callable[[click.Context, click.Parameter, str | None], Any]


def _list_of(read: Callable[[str], Any], expected: str) -> Callback:
    """Return a callback that reads a comma-separated list without repetitions."""

    def callback(context: click.Context, option: click.Parameter, text: str | None) -> list[Any]:
        try:
            items = [read(part.strip()) for part in (text or "").split(",")] if text else []
        except ValueError:
            raise click.BadParameter(f"{text!r} is not {expected}") from None
        return list(dict.fromkeys(items))

    return callback


def _read_batch(text: str) -> int:
    batch = int(text)
    if not 1 <= batch <= MAX_BATCH:
        raise ValueError
    return batch


def _read_engine(text: str) -> str:
    if text not in ENGINES:
        raise ValueError
    return text


@click.command(
    cls=GroupedCommand,
    short_help="Measure how fast a model is sampled here.",
    epilog=examples(
        "pixelsr bench --plot speed.png",
        "pixelsr bench --model faces-8x32 --batch 1,64 --engine cpu --out speed.json",
    ),
)
@_what(
    "--model",
    show_default="the paper-size PixelRecursiveSR, random weights",
    help=MODEL_HELP,
)
@_what("--size", **SIZE)
@_what(
    "--batch",
    "batches",
    metavar="N,N,..",
    default="1,4,16",
    callback=_list_of(_read_batch, f"a list of whole numbers from 1 to {MAX_BATCH}, as 1,16"),
    help="Images at once.",
)
@_what(
    "--engine",
    "engines",
    metavar="NAME,..",
    show_default="all that can run here",
    callback=_list_of(_read_engine, f"a list of engines, of {', '.join(ENGINES)}"),
    help="Engines; `pixelsr doctor` tells which can run here.",
)
@count_option(
    "--rounds",
    default=7,
    help="Turns of each side; those that take long have 3 at most.",
    option=_how,
)
@threads_option(_how, expose_value=False)
@_results("--out", metavar="FILE", type=PATH, help="JSON of every time.")
@_results(
    "--plot",
    "image",
    metavar="FILE",
    type=PATH,
    help="PNG of images a second against images at once; needs matplotlib.",
)
def bench(**options: Any) -> None:
    """Measure how fast a model is sampled on this machine.

    Each engine that can run takes turns in one process, with each kind of weights. After each
    turn, plain PyTorch runs one forward pass of the same batch. The table shows the median ratio:
    the number of forward passes that take the same time.

    The table also has the two simple loops: one runs the whole network for each value, the other
    runs the prior on the rows drawn so far. They take hours, so only some of their steps are
    timed, and an asterisk marks these results. The images are checked against the network before
    the clock starts.

    On a GPU, plain PyTorch runs in bfloat16 and as CUDA graphs, and the table has a third loop:
    the plan in plain PyTorch.

    Other work on the machine distorts the results.
    """
    run("bench", **options)
