"""The work of `pixelsr bench`."""

from pathlib import Path

import torch
from rich.table import Table

from pixelsr.bench import Report, engine_choices, make_batch, measure, plot
from pixelsr.bench.report import LOOPS, Measurement
from pixelsr.models import PixelModel, PixelRecursiveSR
from pixelsr.models.sizes import SMALL_SIDE, drawn_side
from pixelsr.utils.atomic_write import real_path, write_json, write_whole

from .commands.options import Size
from .distributed import find_device
from .errors import warn
from .files import check_file
from .models import load_completer
from .tables import by, make_console, make_table


def run(
    model: str | None,
    size: Size | None,
    batches: list[int],
    engines: list[str],
    rounds: int,
    out: Path | None,
    image: Path | None,
) -> None:
    _check_results(out, image)
    network, image_size = _load(model, size)
    device = find_device("cpu" if engines == ["cpu"] else "auto")
    network = network.to(device)
    report = measure(
        network,
        engine_choices(device, engines, make_batch(network, 1, image_size)),
        image_size=image_size,
        batches=batches,
        rounds=rounds,
        report=warn,
    )
    if out:
        write_json(out, report.as_json())
    if image:
        image.parent.mkdir(parents=True, exist_ok=True)
        write_whole(image, plot.draw_plot(report))
    _show(report)


def _check_results(out: Path | None, image: Path | None) -> None:
    if image and not plot.is_installed():
        raise ValueError("--plot: matplotlib is not installed; pip install matplotlib")
    if image and image.suffix.lower() != ".png":
        raise ValueError(f"--plot {image}: a plot is a PNG; expected a name that ends in .png")
    for path in (out, image):
        if path:
            check_file(path)
    if out and image and real_path(out) == real_path(image):
        raise ValueError(f"--out and --plot are both {out}; expected two files")


def _load(model: str | None, size: Size | None) -> tuple[PixelModel, Size]:
    """Return the model, and the height and width of its images."""
    if model is None:
        torch.manual_seed(0)
        network = PixelRecursiveSR()
        side = SMALL_SIDE * network.scale_factor
        return network, size or (side, side)
    loaded = load_completer(model)
    if size:
        return loaded, size
    side = drawn_side(model, loaded)
    return loaded, (side, side)


def _show(report: Report) -> None:
    console, machine = make_console(), report.machine
    console.print(f"{report.model['class']}, images of {by(report.image_size)}", style="bold")
    console.print(
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, "
        f"{report.date[:10]}"
    )
    console.print(_speeds(report))
    if report.growth:
        console.print(_growth(report))
    console.print("* extrapolated from timed steps")


def _speeds(report: Report) -> Table:
    table = make_table(
        "batch", "method", "forward passes an image", "images a second", name_column=1
    )
    for batch in report.batches:
        table.add_section()
        for result in report.of_batch(batch):
            table.add_row(str(batch), *_cells(result))
    return table


def _cells(result: Measurement) -> tuple[str, str, str]:
    star = "* " if result.method in LOOPS else ""
    passes, speed = result.forward_passes, result.images_per_second
    return result.name, f"{star}{_rounded(passes)}", f"{star}{_rounded(speed)}"


def _growth(report: Report) -> Table:
    small, large = map(by, report.growth[0].image_sizes)
    heads = (f"time a pixel, {large} / {small}", f"cache, {small}", f"cache, {large}")
    table = make_table("method", *heads)
    for growth in report.growth:
        weights = "" if growth.weights == "model" else f", {growth.weights}"
        megabytes = (f"{size / 1e6:.2f} MB" for size in growth.cache_bytes)
        name = f"cached, {growth.engine}{weights}"
        table.add_row(name, f"{growth.time_per_pixel:.2f}", *megabytes)
    return table


def _rounded(value: float) -> str:
    """Return a number with three significant digits, and a large one with all its digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
