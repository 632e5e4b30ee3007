"""The work of `pixelsr complete`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pixelsr.data.binarize import binarized
from pixelsr.data.crop import Box, center_square, from_tensor, small_image, to_tensor
from pixelsr.data.downsample import area_average, visible_average
from pixelsr.data.image_io import open_image
from pixelsr.data.quantize import from_levels, to_levels
from pixelsr.models import PixelModel, PixelRecursiveSR
from pixelsr.models.sizes import drawn_side
from pixelsr.sampling.api import sample_distributed
from pixelsr.training.loss import check_size
from pixelsr.utils.contact_sheet import MAX_ROWS, Row, draw_sheet

from .distributed import on_main_process, worker_group
from .files import Writer, check_folder, find_photos, photo_files, photo_summary, read_photos
from .models import load_completer, trained_binarize

MARKED = 128
HATCH = 112, 144
"""The two grays that alternate in hidden pixels on the sheet."""


@dataclasses.dataclass(frozen=True)
class _Part:
    """The square of a photo, and the pixels of it to draw."""

    square: Tensor  # uint8 [C, S, S], in the model's levels
    hidden: Tensor  # bool [S, S]
    low_res: Tensor | None  # uint8 [C, s, s], what a PixelRecursiveSR sees of it


@dataclasses.dataclass(frozen=True)
class _Job:
    network: PixelModel
    photos: list[Path]
    parts: list[_Part]
    files: list[Path]  # of photo 1, then of photo 2, ...


def run(
    photos: Sequence[Path],
    out: Path,
    samples: int,
    keep: str,
    mask: Path | None,
    size: int | None,
    low_res_of: str | None,
    model: str,
    box: Box | None,
    **sampling: Any,
) -> None:
    with worker_group(sampling["engine"]) as (workers, device):
        job = on_main_process(
            workers,
            lambda: _prepare(photos, out, samples, keep, mask, size, low_res_of, model, box),
        )
        squares = torch.stack([part.square for part in job.parts])
        hidden = torch.stack([part.hidden for part in job.parts])[:, None].expand_as(squares)
        # None for a prior, which has no inputs: one row of samples, those of photo 1 first.
        small = [part.low_res for part in job.parts if part.low_res is not None]
        writer = Writer(out, job.files, job.network.levels)
        images = sample_distributed(
            workers,
            job.network.to(device),
            samples if small else len(squares) * samples,
            image_size=(squares.shape[2], squares.shape[3]),
            low_res=torch.stack(small) if small else None,
            known=squares.repeat_interleave(samples, 0),
            known_mask=~hidden.repeat_interleave(samples, 0),
            progress=True,
            keep=writer.write,
            **sampling,
        )
    if not workers.is_first:
        return
    images = from_levels(images, job.network.levels)
    writer.close(_sheet(job, images.split(samples)))
    click.echo(photo_summary(out, len(job.photos), samples))


def _prepare(
    photos: Sequence[Path],
    out: Path,
    samples: int,
    keep: str,
    mask: Path | None,
    size: int | None,
    low_res_of: str | None,
    model: str,
    box: Box | None,
) -> _Job:
    check_folder(out)
    found = find_photos(photos, out)
    marked = None if mask is None else to_tensor(open_image(mask).convert("L"))[0] >= MARKED
    network = load_completer(model)
    if low_res_of is not None and not isinstance(network, PixelRecursiveSR):
        raise ValueError(
            f"model {model} is a {type(network).__name__}, which sees no small image: "
            "--low-res-of is for PixelRecursiveSR"
        )
    side = size or drawn_side(model, network)
    check_size(network, (side, side))

    # A photo is given, nothing is measured on it: without a choice in training it is thresholded.
    binarize = (trained_binarize(model) or "threshold") if network.levels == 2 else None

    def cut(path: Path, image: Image.Image) -> _Part:
        try:
            square = _square(image, side, network.colors, box)
            if marked is None:
                hidden = _other_half(keep, side)
            else:
                hidden = _marked_pixels(marked, image.size, side, box)
            square = to_levels(binarized(square[None], network.levels, binarize), network.levels)[0]
            of = low_res_of or ("whole" if marked is None else "visible")
            return _Part(square, hidden, _low_res(network, square, hidden, of))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    paths, parts = read_photos(found, cut)
    inputs = [photo.path for photo in found] + ([] if mask is None else [mask])
    return _Job(network, paths, parts, photo_files(out, paths, samples, inputs))


def _square(image: Image.Image, side: int, colors: int, box: Box | None) -> Tensor:
    """Return the square of a photo at the size of the model, uint8 [C, side, side]."""
    cut = min(image.size) if box is None else box[2] - box[0]
    if 0 < cut < side:
        raise ValueError(f"the square to complete is {cut} pixels a side, expected at least {side}")
    return small_image(image, size=side, scale_factor=1, colors=colors, box=box).low_res


def _low_res(network: PixelModel, square: Tensor, hidden: Tensor, of: str) -> Tensor | None:
    """Return the small image of a `PixelRecursiveSR`, uint8 [C, s, s]; None for a prior."""
    if not isinstance(network, PixelRecursiveSR):
        return None
    if of == "whole":
        return area_average(square[None], network.scale_factor)[0]
    return visible_average(square[None], hidden[None], network.scale_factor)[0]


def _other_half(keep: str, side: int) -> Tensor:
    """Return a mask, bool [side, side], that is true outside the half to keep."""
    hidden = torch.ones(side, side, dtype=torch.bool, device="cpu")
    half = side // 2
    kept = {
        "upper": hidden[:half],
        "lower": hidden[side - half :],
        "left": hidden[:, :half],
        "right": hidden[:, side - half :],
    }
    kept[keep][:] = False
    return hidden


def _marked_pixels(marked: Tensor, photo: tuple[int, int], side: int, box: Box | None) -> Tensor:
    """Return a mask, bool [side, side], that is true if any pixel of the cell is marked."""
    size = marked.shape[1], marked.shape[0]
    if size == photo:
        left, top, right, bottom = box or center_square(photo)
        # Its cells are those of the area average: a pixel that lies across a border is in both.
        cells = F.adaptive_max_pool2d(marked[None, top:bottom, left:right].float(), side)
        hidden = cells[0].bool()
    elif size == (side, side):
        hidden = marked
    else:
        raise ValueError(
            f"the mask is {size[0]}x{size[1]} pixels, expected the photo's "
            f"{photo[0]}x{photo[1]} or the model's {side}x{side}"
        )
    if not hidden.any():
        raise ValueError("the mask marks nothing to draw: no pixel in the square is white")
    return hidden


def _sheet(job: _Job, samples: Sequence[Tensor]) -> Image.Image:
    shown = list(zip(job.photos, job.parts, samples, strict=True))[:MAX_ROWS]
    captions = ["given", *(f"sample {k + 1}" for k in range(len(samples[0]))), "original"]
    rows = []
    for path, part, images in shown:
        original = from_levels(part.square, job.network.levels)
        tiles = [_hatched(original, part.hidden), *images, original]
        rows.append(Row(path.name, [from_tensor(tile) for tile in tiles]))
    return draw_sheet(captions, rows, rows[0].tiles[0].size)


def _hatched(image: Tensor, hidden: Tensor) -> Tensor:
    """Return the image with its hidden pixels as a gray checkerboard."""
    line = torch.arange(len(hidden), device="cpu")
    hatch = torch.tensor(HATCH, dtype=torch.uint8, device="cpu")[(line[:, None] + line) % 2]
    return torch.where(hidden, hatch, image)
