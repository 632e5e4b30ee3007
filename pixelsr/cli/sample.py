"""`pixelsr sample`: images from nothing but a prior."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pixelsr.data.crop import from_tensor
from pixelsr.data.quantize import from_levels
from pixelsr.models import PixelModel
from pixelsr.models.sizes import drawn_side
from pixelsr.sampling.api import sample_distributed
from pixelsr.utils.contact_sheet import MAX_TILES, draw_grid

from .files import SHEET, Writer, check_files, check_folder, summary
from .help import examples
from .models import load_prior
from .on_main_process import by_first, team
from .options import Size, model_option, out_option, sampling_options, size_option


@click.command(
    short_help="Draw images from a prior alone.",
    epilog=examples(
        "pixelsr sample --model prior/model -n 64 -o out",
        "pixelsr sample --model prior/model -n 64 --first-index 64 -o more",
    ),
)
@out_option
@click.option(
    "-n",
    "samples",
    default=16,
    show_default=True,
    type=click.IntRange(1, 10**6),
    metavar="N",
    help="Images to draw.",
)
@size_option
@click.option(
    "--first-index",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**63 - 1),
    metavar="N",
    help="Number of the first sample in the noise, from 0: go on where another run ended.",
)
@model_option()
@sampling_options
def sample(
    out: Path, samples: int, size: Size | None, first_index: int, model: str, **sampling: Any
) -> None:
    """Draw images from a prior, such as `pixelsr train --model GatedPixelCNN` trains.

    Writes sample k as OUT/sample-<k + 1>.png, and all of them side by side as OUT/sheet.png. Fewer
    levels than 256 are spread from black to white. OUT is a folder.

    Under `torchrun` the workers share the samples; the images are the same.
    """
    files = [out / f"sample-{first_index + k + 1:04d}.png" for k in range(samples)]
    with team(sampling["engine"]) as (workers, device):
        prior, image_size = by_first(workers, lambda: _prepare(out, files, model, size))
        writer = Writer(out, files, prior.levels)
        images = sample_distributed(
            workers,
            prior.to(device),
            samples,
            image_size=image_size,
            first_index=first_index,
            progress=True,
            keep=writer.write,
            **sampling,
        )
    if not workers.is_first:
        return
    shown = from_levels(images[:MAX_TILES], prior.levels)
    writer.close(draw_grid([from_tensor(image) for image in shown]))
    click.echo(summary(out, samples, "" if samples <= MAX_TILES else f"the first {MAX_TILES} "))


def _prepare(
    out: Path, files: Sequence[Path], model: str, size: Size | None
) -> tuple[PixelModel, Size]:
    check_folder(out)
    check_files([*files, out / SHEET], [])
    prior = load_prior(model)
    if size is not None:
        return prior, size
    side = drawn_side(model, prior)
    return prior, (side, side)
