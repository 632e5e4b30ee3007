"""What a completion takes, beside a whole image."""

from functools import partial

from torch import Tensor

from pixelsr.bench.engine_choices import request_of
from pixelsr.bench.inputs import Batch
from pixelsr.bench.timing import median_ratio, seconds
from pixelsr.models import PixelModel
from pixelsr.sampling.methods import plan_of, resolve_engine
from pixelsr.sampling.plan import macs_with_known
from pixelsr.utils.progress import track

from ..support.results import Results
from .parts import HOLE, LOWER, UPPER, WHOLE, complete, hidden_pixels, small_images

SIDES = (WHOLE, LOWER, UPPER, HOLE)


def measure_times(model: PixelModel, images: Tensor, rounds: int) -> Results:
    """Draw each of the images once, and complete it, in turns, with the device's own engine.

    Args:
        images: uint8 ``[B, C, H, W]``, in the model's levels.
        rounds: of all sides, after one that does not count.
    Returns:
        of each of `SIDES` the seconds of every round, and the share of the values that it draws;
        its multiply-adds and its time, those of a whole image being 1.
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
    return {"batch": len(batch), "engine": resolve_engine("auto", request), "sides": sides}
