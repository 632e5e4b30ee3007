"""The time of completions compared with a whole image."""

from functools import partial
from typing import Any

from torch import Tensor

from pixelsr.bench.choices import request_of
from pixelsr.bench.inputs import Batch
from pixelsr.bench.timing import median_ratio, seconds
from pixelsr.models import PixelModel
from pixelsr.sampling.methods import plan_of, resolve_engine
from pixelsr.sampling.plan import macs_with_known
from pixelsr.utils.progress import track

from ..support.plots import COLORS, canvas, tidy
from ..support.results import Results
from .parts import HOLE, LOWER, UPPER, WHOLE, complete, hidden_pixels, small_images, titles

SIDES = (WHOLE, LOWER, UPPER, HOLE)


def measure_times(model: PixelModel, images: Tensor, rounds: int) -> Results:
    """Draw the images and complete their parts, in turns, with the device's own engine.

    Args:
        images: uint8 ``[B, C, H, W]``, in the model's levels.
        rounds: number of rounds over all of `SIDES`, after one warm-up round.
    Returns:
        For each of `SIDES` the seconds of every round, the share of the values that are drawn, and
        the multiply-adds and the time relative to a whole image.
    """
    work = {name: partial(complete, model, images, name) for name in SIDES}
    taken: dict[str, list[float]] = {name: [] for name in SIDES}
    for turn in track(range(rounds + 1), "times", True):
        for name in SIDES:
            time = seconds(model.device, work[name])
            if turn:
                taken[name].append(time)
    batch = Batch(model, images.to(model.device), small_images(model, images, WHOLE))
    request = request_of(batch, "model")
    hidden = {name: hidden_pixels(name, *batch.image_size) for name in SIDES}
    made, shape = plan_of(request), images.shape[1:]
    macs = {name: macs_with_known(made, hidden[name].expand(shape)) for name in SIDES}
    sides = {
        name: {
            "hidden": hidden[name].double().mean().item(),
            "macs": macs[name] / macs[WHOLE],
            "time": median_ratio(taken[name], taken[WHOLE]),
            "seconds": taken[name],
        }
        for name in SIDES
    }
    return {
        "batch": len(batch),
        "engine": resolve_engine("auto", made, request).name,
        "sides": sides,
    }


def draw_times(results: Results) -> Any:
    """Draw a bar for the time of each completion, and a mark at its multiply-adds."""
    names = titles(results)
    sides = {
        f"{names[way]}: {part}": side
        for way, facts in results["ways"].items()
        for part, side in facts["times"]["sides"].items()
        if part != WHOLE
    }
    figure = canvas(8, 0.8 + 0.32 * len(sides))
    axes = figure.add_subplot()
    positions = range(len(sides))
    axes.barh(positions, [side["time"] for side in sides.values()], color=COLORS[0], label="time")
    macs = [side["macs"] for side in sides.values()]
    axes.plot(macs, positions, "|", color=COLORS[1], ms=16, mew=3, label="multiply-adds")
    axes.set_yticks(positions, list(sides))
    axes.invert_yaxis()
    axes.axvline(1, color="#333333", linewidth=0.8)
    tidy(axes, "a whole image is 1", "")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure
