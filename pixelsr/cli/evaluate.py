"""The work of `pixelsr evaluate`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from pixelsr.data.binarize import check_binarize, describe_levels
from pixelsr.data.load import load_images
from pixelsr.evaluation import Enlargement, Report
from pixelsr.evaluation import evaluate as measure
from pixelsr.evaluation.metrics import MS_SSIM_SIDE, SSIM_SIDE
from pixelsr.models import PixelModel, PixelRecursiveSR
from pixelsr.models.sizes import trained_size
from pixelsr.training.loss import check_size
from pixelsr.utils.atomic_write import write_json

from .commands.evaluate import SIZE
from .distributed import find_device
from .errors import warn
from .files import check_file
from .models import trained_binarize
from .tables import by, make_console, make_table

METHODS = {
    "model": "drawn by the model",
    "bicubic": "bicubic",
    "nearest_neighbor": "nearest neighbor",
}


def run(
    folder: str,
    model: str,
    train: str | None,
    engine: str,
    size: int | None,
    binarize: str | None,
    workers: int,
    json: Path | None,
    **options: Any,
) -> None:
    if json:
        check_file(json)
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
    load = partial(load_images, size=size, report=warn, colors=network.colors, workers=workers)
    report = measure(
        network.to(find_device(engine)),
        load(folder),
        train=load(train) if train else None,
        engine=engine,
        binarize=binarize,
        progress=True,
        **options,
    )
    if json:
        write_json(json, {"model": model, "folder": folder, "train": train, **report.as_json()})
    _show(report)


def _show(report: Report) -> None:
    console = make_console()
    images = f"{_count(report.images, 'image')} of {by(report.size)}"
    table = make_table(images, "bits per dimension", "nats per image")
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
    table = make_table(
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
            yield f"{name} is not defined at {by(size)}: it needs {side} pixels a side"
    if enlargement.train is None:
        yield "no nearest neighbor: --train names the images to look for it in"


def _similarity(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
