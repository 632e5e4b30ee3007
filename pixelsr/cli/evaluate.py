"""The work of `pixelsr evaluate`."""

import json as json_format
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from pixelsr.data.binarize import check_binarize, describe_levels
from pixelsr.data.load import load_images
from pixelsr.evaluation import Enlargement, Report
from pixelsr.evaluation import evaluate as measure
from pixelsr.evaluation.metrics import MS_SSIM_SIDE, SSIM_SIDE
from pixelsr.models import PixelModel, PixelRecursiveSR
from pixelsr.models.sizes import trained_size
from pixelsr.training.loss import check_size
from pixelsr.utils.atomic_write import write_whole

from .commands.evaluate import SIZE
from .distributed import find_device
from .files import check_files, check_folder
from .models import trained_binarize

METHODS = {
    "model": "drawn by the model",
    "bicubic": "bicubic",
    "nearest_neighbor": "nearest neighbor",
}


def run(
    folder: str,
    model: str,
    train: str | None,
    samples: int,
    max_images: int | None,
    batch: int,
    seed: int,
    temperature: float,
    engine: str,
    size: int | None,
    binarize: str | None,
    workers: int,
    json: Path | None,
) -> None:
    if json:
        check_folder(json.parent)
        check_files([json], [])
    network = PixelModel.from_pretrained(model)
    if train and not isinstance(network, PixelRecursiveSR):
        raise ValueError(
            f"model {model} is a {type(network).__name__}, which enlarges nothing: --train is for "
            "PixelRecursiveSR"
        )
    size = size or trained_size(model) or SIZE
    check_size(network, (size, size))
    binarize = binarize or trained_binarize(model)
    check_binarize(network.levels, binarize)
    load = partial(load_images, size=size, report=_warn, colors=network.colors, workers=workers)
    report = measure(
        network.to(find_device(engine)),
        load(folder),
        train=load(train) if train else None,
        samples=samples,
        max_images=max_images,
        batch=batch,
        seed=seed,
        temperature=temperature,
        engine=engine,
        binarize=binarize,
        progress=True,
    )
    if json:
        _write(json, {"model": model, "folder": folder, "train": train, **report.as_json()})
    _show(report)


def _warn(sentence: str) -> None:
    click.echo(sentence, err=True)


def _write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json_format.dumps(values, indent=2, allow_nan=False) + "\n").encode())


def _show(report: Report) -> None:
    console = Console(highlight=False, emoji=False, markup=False)
    size = _by(report.size)
    table = _table(
        f"{_count(report.images, 'image')} of {size}", "bits per dimension", "nats per image"
    )
    for name, bits in report.bits_per_dimension.items():
        table.add_row(name, f"{bits:.4f}", f"{report.nats_per_image[name]:.2f}")
    console.print(table)
    if quantized := describe_levels(report.levels, report.binarize):
        note = "do not compare these bits with those of other levels or binarizations"
        console.print(f"the images were {quantized}: {note}", soft_wrap=True)
    if report.enlargement:
        console.print()
        console.print(_scores(report.enlargement))
        for note in _notes(report.enlargement, report.size):
            console.print(note)


def _scores(enlargement: Enlargement) -> Table:
    table = _table(
        _count(enlargement.images, "image") + ", enlarged",
        "pSNR, dB",
        "SSIM",
        "MS-SSIM",
        "consistency, MSE",
    )
    for method, scores in enlargement.scores.items():
        table.add_row(
            METHODS[method],
            f"{scores.psnr:.2f}",
            _similarity(scores.ssim),
            _similarity(scores.ms_ssim),
            f"{scores.consistency:.6f}",
        )
    return table


def _notes(enlargement: Enlargement, size: tuple[int, int]) -> Iterator[str]:
    """Yield notes on results that are missing."""
    draws = enlargement.draws
    yield (
        f"{_count(draws.samples, 'sample')} of each, seed {draws.seed}, "
        f"temperature {draws.temperature:g}, engine {draws.engine}"
    )
    for name, side in {"SSIM": SSIM_SIDE, "MS-SSIM": MS_SSIM_SIDE}.items():
        if min(size) < side:
            yield f"{name} is not defined at {_by(size)}: it needs {side} pixels a side"
    if enlargement.train is None:
        yield "no nearest neighbor: --train names the images to look for it in"


def _table(*heads: str) -> Table:
    """Return an empty table with names aligned left and numbers aligned right."""
    table = Table(box=box.SIMPLE_HEAD)
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left")
    return table


def _similarity(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _by(size: tuple[int, int]) -> str:
    height, width = size
    return f"{width}x{height}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
