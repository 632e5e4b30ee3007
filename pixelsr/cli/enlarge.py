"""The work of `pixelsr enlarge`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image
from torch import Tensor

from pixelsr.data.crop import Box, SmallImage, from_tensor, small_image
from pixelsr.models import PixelRecursiveSR
from pixelsr.models.sizes import small_side
from pixelsr.sampling.api import sample_distributed
from pixelsr.utils.contact_sheet import MAX_ROWS, Row, draw_sheet

from .distributed import on_main_process, worker_group
from .files import Writer, check_folder, find_photos, photo_files, photo_summary, read_photos
from .models import load_enlarger


@dataclasses.dataclass(frozen=True)
class _Job:
    network: PixelRecursiveSR
    photos: list[Path]
    smalls: list[SmallImage]
    files: list[Path]  # of photo 1, then of photo 2, ...


def run(
    photos: Sequence[Path], out: Path, samples: int, model: str, box: Box | None, **sampling: Any
) -> None:
    with worker_group(sampling["engine"]) as (workers, device):
        job = on_main_process(workers, lambda: _prepare(photos, out, samples, model, box))
        writer = Writer(out, job.files, job.network.levels)
        images = sample_distributed(
            workers,
            job.network.to(device),
            samples,
            low_res=torch.stack([small.low_res for small in job.smalls]),
            progress=True,
            keep=writer.write,
            **sampling,
        )
    if not workers.is_first:
        return
    writer.close(_sheet(job, images.split(samples)))
    click.echo(photo_summary(out, len(job.photos), samples))


def _prepare(photos: Sequence[Path], out: Path, samples: int, model: str, box: Box | None) -> _Job:
    check_folder(out)
    found = find_photos(photos, out)
    network = load_enlarger(model)
    size = small_side(model, network)

    def reduce(path: Path, image: Image.Image) -> SmallImage:
        try:
            return small_image(
                image,
                size=size,
                scale_factor=network.scale_factor,
                colors=network.colors,
                box=box,
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    paths, smalls = read_photos(found, reduce)
    files = photo_files(out, paths, samples, [photo.path for photo in found])
    return _Job(network, paths, smalls, files)


def _sheet(job: _Job, samples: Sequence[Tensor]) -> Image.Image:
    shown = list(zip(job.photos, job.smalls, samples, strict=True))[:MAX_ROWS]
    height, width = job.smalls[0].low_res.shape[-2:]
    captions = [f"{width}x{height} input", "bicubic"]
    captions += [f"sample {k + 1}" for k in range(len(samples[0]))]
    if any(small.original is not None for _, small, _ in shown):
        captions.append("original")
    rows = [Row(path.name, _tiles(small, images)) for path, small, images in shown]
    return draw_sheet(captions, rows, rows[0].tiles[-1].size)


def _tiles(small: SmallImage, samples: Tensor) -> list[Image.Image]:
    tile = from_tensor(small.low_res)
    drawn = [from_tensor(sample) for sample in samples]
    bicubic = tile.resize(drawn[0].size, Image.Resampling.BICUBIC)
    original = [] if small.original is None else [from_tensor(small.original)]
    return [tile, bicubic, *drawn, *original]
