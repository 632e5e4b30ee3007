"""The work of `pixelsr sample`."""

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

from .commands.options import Size
from .distributed import on_main_process, worker_group
from .files import SHEET, Writer, check_files, check_folder, summary
from .models import load_prior


def run(
    out: Path, samples: int, size: Size | None, first_index: int, model: str, **sampling: Any
) -> None:
    files = [out / f"sample-{first_index + k + 1:04d}.png" for k in range(samples)]
    with worker_group(sampling["engine"]) as (workers, device):
        prior, image_size = on_main_process(workers, lambda: _prepare(out, files, model, size))
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
