"""Bits per dimension: what a model needs, on average, to name one value of a picture; and nats."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pixelsr.models import PixelModel
from pixelsr.utils.distributed import Workers

from .objective import nats_of

ALONE = Workers()


@torch.inference_mode()
def bits_per_dimension(
    model: PixelModel,
    images: Tensor,
    batch: int,
    workers: Workers = ALONE,
    advance: Callable[[float], None] = lambda done: None,
) -> dict[str, float]:
    """``-log2 p(y)`` divided by the number of values, mean over all images.

    Args:
        model: computed in eval mode, and put back into its own mode afterwards.
        images: uint8 ``[N, C, H, W]``.
        batch: images at a time; the result does not depend on it, beyond rounding.
        workers: share the images; each gets the result for all of them.
        advance: called after each batch, equally often in each worker, with the fraction that is
            done; what it raises ends the measurement.
    Returns:
        for `PixelRecursiveSR` "sum", of softmax(A + B), "conditioning", of softmax(A), and "prior",
        of softmax(B); for any other model "model".
    """
    was_training = model.training
    model.eval()
    try:
        totals = _sums(model, images, batch, workers, advance)
    finally:
        model.train(was_training)
    every = workers.gather(totals)
    names = max(every, key=len)  # a worker without an image has no names
    sums = {name: sum(totals.get(name, 0.0) for totals in every) for name in names}
    return {name: nats / (images.numel() * math.log(2)) for name, nats in sums.items()}


def _sums(
    model: PixelModel,
    images: Tensor,
    batch: int,
    workers: Workers,
    advance: Callable[[float], None],
) -> dict[str, float]:
    """Return the nats of this worker's share of the images, by name."""
    totals: dict[str, float] = {}
    mine = images[workers.share(len(images))]
    largest_share = math.ceil(len(images) / workers.count)
    for first in range(0, largest_share, batch):
        some = mine[first : first + batch].to(model.device)
        if len(some):
            for name, nats in nats_of(model, some).items():
                totals[name] = totals.get(name, 0.0) + nats.double().sum().item()
        advance(min(1.0, (first + batch) / largest_share))
    return totals


def nats_per_image(bits: float, images: Tensor) -> float:
    """Bits per dimension as nats of a whole picture: ``bits * values * ln 2``.

    Args:
        images: ``[N, C, H, W]``, those that the bits are of; a picture has ``C * H * W`` values.
    """
    return bits * math.prod(images.shape[1:]) * math.log(2)
