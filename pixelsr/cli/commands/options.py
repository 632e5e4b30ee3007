"""The options that several commands share."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pixelsr.config.choices import BINARIZATIONS, ENGINES, MAX_SIDE

Command = Callable[..., Any]
Option = Callable[[Command], Command]
Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels; right and bottom are exclusive."""
Size = tuple[int, int]
"""The height and width, in pixels."""
MAX_BATCH = 256


def _read_box(context: click.Context, option: click.Parameter, text: str | None) -> Box | None:
    if text is None:
        return None
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not LEFT,TOP,RIGHT,BOTTOM: four whole numbers of pixels"
        ) from None
    return left, top, right, bottom


def _read_size(context: click.Context, option: click.Parameter, text: str | None) -> Size | None:
    if text is None:
        return None
    height, by, width = text.partition("x")
    try:
        size = int(height), int(width if by else height)
    except ValueError:
        size = (0, 0)
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise click.BadParameter(
            f"{text!r} is not H or HxW: whole numbers of pixels from 1 to {MAX_SIDE}"
        )
    return size


def _finite(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


class Filled(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A non-empty text of type `kind`, such as a path.

    An empty path would be the working directory.
    """

    def __init__(self, kind: Callable[[str], Any] = str) -> None:
        self.name = "path" if kind is Path else "text"
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("it is empty", param, ctx)
        return self.kind(value)


PATH, TEXT = Filled(Path), Filled()
photos_argument = click.argument("photos", metavar="PHOTO...", nargs=-1, required=True, type=PATH)


def out_option(help: str) -> Option:
    """Return the option --out, the folder to write."""
    return click.option("-o", "--out", metavar="OUT", required=True, type=PATH, help=help)


images_out_option = out_option(
    "Folder for the images; it is created if needed, and existing files are replaced."
)


def device_option(help: str, option: Callable[..., Option] = click.option) -> Option:
    """Return the option --device."""
    choice = click.Choice(["auto", "cpu", "cuda"])
    return option("--device", type=choice, default="auto", show_default=True, help=help)


def count_option(
    *names: str,
    help: str,
    default: int | None = None,
    least: int = 1,
    most: int | None = None,
    metavar: str = "N",
    option: Callable[..., Option] = click.option,
    **attributes: Any,
) -> Option:
    """Return an option that is an int from `least` to `most`."""
    if default is not None:
        attributes |= {"default": default, "show_default": True}
    kind = click.IntRange(least, most)
    return option(*names, metavar=metavar, type=kind, help=help, **attributes)


samples_option = count_option(
    "--samples", default=4, most=64, help="Number of images to draw for each photo."
)

box_option = click.option(
    "--box",
    metavar="LEFT,TOP,RIGHT,BOTTOM",
    callback=_read_box,
    help="The square of each photo to take, in pixels.  [default: the center square]",
)

SIZE: dict[str, Any] = {
    "metavar": "H or HxW",
    "callback": _read_size,
    "help": "Height and width of the images, in pixels.  [default: as the model was trained]",
}
"""Attributes of --size."""

seed_option = count_option(
    "--seed", default=0, least=0, most=2**64 - 1, help="The same seed draws the same images."
)

engine_option = click.option(
    "--engine",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", *ENGINES]),
    help="Sampling engine; `pixelsr doctor` shows which engines can run here.",
)


THREADS_KEY = "pixelsr.threads"


def _keep_threads(
    context: click.Context, option: click.Parameter, threads: int | None
) -> int | None:
    """Keep the number for `run`, which imports torch."""
    context.meta[THREADS_KEY] = threads
    return threads


def threads_option(option: Callable[..., Option] = click.option, **attributes: Any) -> Option:
    """Return the option --threads."""
    help = "CPU threads.  [default: one for each core]"
    callback = _keep_threads
    return count_option(
        "--threads", most=1024, help=help, option=option, callback=callback, **attributes
    )


BINARIZE = click.Choice(BINARIZATIONS)
"""The type of --binarize."""
BINARIZE_HELP = (
    "How to make gray images black and white for a model of 2 levels: white from 128 on, or each "
    "value white with probability intensity / 255, drawn once."
)

MOST_READERS = 1024
"""The largest number of processes that read images."""

max_batch_option = count_option(
    "--max-batch",
    default=MAX_BATCH,
    help="Largest number of images to draw at once: fewer take less memory, and change no image.",
)


MODEL_HELP = "A bundled model's name, or a folder such as RUN/model of `pixelsr train -o RUN`."


def model_option(default: str | None = None) -> Option:
    """Return the option --model, which is required if there is no default."""
    given: dict[str, Any] = {"required": True} if default is None else {"default": default}
    return click.option(
        "--model",
        type=TEXT,
        show_default=True,
        help=MODEL_HELP,
        **given,
    )


def temperature_options(command: Command) -> Command:
    """Add --temperature and --tau, which the command receives as one `temperature: float`."""

    @click.option(
        "--temperature",
        metavar="T",
        type=click.FloatRange(min=0),
        callback=_finite,
        help="Divisor of the logits: less than 1 is tamer, 0 takes the likeliest value each time.  "
        "[default: 1]",
    )
    @click.option(
        "--tau",
        metavar="X",
        type=click.FloatRange(min=0, min_open=True),
        callback=_finite,
        help="The paper's multiplier of the logits, 1/temperature; replaces --temperature.",
    )
    @functools.wraps(command)
    def merged(*, temperature: float | None, tau: float | None, **options: Any) -> Any:
        if tau is not None and temperature is not None:
            raise click.UsageError("--tau is 1/temperature: give --tau or --temperature, not both")
        if tau is not None:
            temperature = 1 / tau
        return command(temperature=1.0 if temperature is None else temperature, **options)

    return merged


def sampling_options(command: Command) -> Command:
    """Add seed, temperature, engine and max_batch, with the names of `pixelsr.sample`."""
    threads = threads_option(expose_value=False)
    options = (threads, max_batch_option, engine_option, temperature_options, seed_option)
    for option in options:
        command = option(command)
    return command
