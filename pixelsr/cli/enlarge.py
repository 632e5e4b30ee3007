"""`pixelsr enlarge`: photos in, plausible larger pictures out."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch
from PIL import Image

import pixelsr

from ..data.pictures import open_picture, save_pictures
from ..data.small import Box, SmallPicture, from_tensor, small_picture
from ..models import PixelRecursiveSR
from ..sampling.engines import ENGINES
from .outputs import check_files, check_folder, unique_names
from .sheet import Row, draw_sheet

SHEET = "sheet.png"


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


def _finite(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


@click.command(short_help="Draw larger pictures that small photos may have come from.")
@click.argument(
    "photos", metavar="PHOTO...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--out",
    metavar="OUT",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for the pictures, made if need be; files of the same names are written over.",
)
@click.option(
    "--samples",
    default=4,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Pictures drawn for each photo.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="The same seed draws the same pictures.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    callback=_finite,
    help="Divides the logits: less than 1 is tamer, 0 takes the likeliest value each time.  "
    "[default: 1]",
)
@click.option(
    "--tau",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    help="The paper's multiplier of the logits, 1/temperature; instead of --temperature.",
)
@click.option(
    "--model",
    default="faces-8x32",
    show_default=True,
    help="A bundled model's name, or a folder such as RUN/model of `pixelsr train -o RUN`.",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", *ENGINES]),
    help="What does the sampling; `pixelsr doctor` tells which can run here.",
)
@click.option(
    "--box",
    metavar="LEFT,TOP,RIGHT,BOTTOM",
    callback=_read_box,
    help="The square of each photo to enlarge, in pixels.  [default: the centre square]",
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    help="Pictures drawn at once, to save memory; the pictures stay the same.",
)
def enlarge(
    photos: Sequence[Path],
    out: Path,
    samples: int,
    seed: int,
    temperature: float | None,
    tau: float | None,
    model: str,
    engine: str,
    box: Box | None,
    max_batch: int | None,
) -> None:
    """Draw larger pictures that each PHOTO, made small, may have come from.

    Of each photo the centre square (or --box) is averaged down to 8x8 pixels; a picture that is
    8x8 already is taken as it is. Faces should fill the square.

    Writes each drawn picture as OUT/<photo>-1.png and so on, and all of them side by side, with the
    input and the original, as OUT/sheet.png. OUT is a folder.
    """
    if tau is not None and temperature is not None:
        raise click.UsageError("--tau is 1/temperature: give --tau or --temperature, not both")
    names = unique_names(photos)
    files = [[out / f"{name}-{k + 1}.png" for k in range(samples)] for name in names]
    sheet = out / SHEET
    check_folder(out)
    check_files([sheet, *(path for row in files for path in row)], photos)
    pictures = [open_picture(path) for path in photos]
    network = _load(model, engine)
    smalls = [
        _small(path, picture, network, box) for path, picture in zip(photos, pictures, strict=True)
    ]
    drawn = _draw(
        network,
        smalls,
        n=samples,
        seed=seed,
        temperature=1 / tau if tau else 1.0 if temperature is None else temperature,
        engine=engine,
        max_batch=max_batch,
    )
    rows = [
        Row(path.name, small, images)
        for path, small, images in zip(photos, smalls, drawn, strict=True)
    ]
    _write(sheet, rows, files)
    click.echo(f"{_count(len(photos) * samples, 'picture')} in {out}, side by side in {sheet}")


def _load(model: str, engine: str) -> PixelRecursiveSR:
    network = PixelRecursiveSR.from_pretrained(model)
    config = network.conditioning.config
    if config.levels != 256 or config.colours not in (1, 3):
        raise ValueError(
            f"model {model} draws {config.levels} levels of {config.colours} colours; "
            "photos need 256 levels of 1 or 3 colours"
        )
    return network.to("cuda" if engine != "cpu" and torch.cuda.is_available() else "cpu")


def _small(
    path: Path, picture: Image.Image, network: PixelRecursiveSR, box: Box | None
) -> SmallPicture:
    colours = network.conditioning.config.colours
    try:
        return small_picture(picture, magnification=network.magnification, colours=colours, box=box)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _draw(
    network: PixelRecursiveSR, smalls: Sequence[SmallPicture], n: int, **options: Any
) -> tuple[torch.Tensor, ...]:
    """n pictures of each photo, uint8 [n, C, H, W] each."""
    low_res = torch.stack([small.low_res for small in smalls]).to(network.device)
    images: torch.Tensor = pixelsr.sample(network, n=n, low_res=low_res, progress=True, **options)
    return images.cpu().split(n)


def _write(sheet: Path, rows: Sequence[Row], files: Sequence[Sequence[Path]]) -> None:
    pictures = {
        path: from_tensor(image)
        for row, paths in zip(rows, files, strict=True)
        for path, image in zip(paths, row.samples, strict=True)
    }
    sheet.parent.mkdir(parents=True, exist_ok=True)
    save_pictures({**pictures, sheet: draw_sheet(rows)})


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
