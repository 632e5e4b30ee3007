"""The losses of training and of validation, in nats and in bits per dimension."""

import math
from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.models import PixelModel, PixelRecursiveSR, PixelRNN
from pixelsr.utils.distributed import Workers


def nats_of(model: PixelModel, images: Tensor) -> dict[str, Tensor]:
    """``-log p`` of each picture, nats ``[N]``, by each distribution of a model, its own first.

    For `PixelRecursiveSR` "sum", A + B, "conditioning", A alone, and "prior", B alone; for any
    other model "model".

    Args:
        images: uint8 ``[N, C, H, W]``; the small pictures are what the model's `shrink` makes.
    """
    if not isinstance(model, PixelRecursiveSR):
        return {"model": _own_nats(model, images)}
    conditioning = model.conditioning(model.shrink(images))
    prior = model.prior(images)
    total = functional.add_logits(conditioning, prior)
    every = {"sum": total, "conditioning": conditioning, "prior": prior}
    return {name: functional.nats(logits, images) for name, logits in every.items()}


def _own_nats(model: PixelModel, images: Tensor) -> Tensor:
    return model.nats(images, model.shrink(images)) if is_multi_scale(model) else model.nats(images)


def is_multi_scale(model: PixelModel) -> TypeGuard[PixelRNN]:
    """Is it a recurrent network that draws a picture from a small one?"""
    return isinstance(model, PixelRNN) and model.config.magnification is not None


def check_size(model: PixelModel, size: Sequence[int]) -> None:
    """That a model has distributions over pictures of this height and width.

    Raises:
        ValueError: they are no multiples of its magnification.
    """
    factor = getattr(model, "magnification", 1)
    height, width = size
    if height % factor or width % factor:
        raise ValueError(
            f"the model magnifies {factor} times: pictures must have sides that are multiples of "
            f"{factor}, got {height}x{width}"
        )


class Objective(nn.Module):
    """The terms of the loss, nats per value; the first is that of the model's own distribution.

    For `PixelRecursiveSR` they are -log softmax(A + B) and -log softmax(A / conditioning_weight);
    with a weight of 1 their sum is its ``loss`` divided by the number of values of a picture, so
    that the learning rate does not depend on the size. B alone has no term. A module, so that it
    can be compiled, and wrapped for several workers, as a whole.

    Shape:
        uint8 ``[N, C, H, W]`` to ``[terms]``, means over the N pictures.
    """

    def __init__(self, model: PixelModel, conditioning_weight: float = 1.0) -> None:
        super().__init__()
        self.model, self.conditioning_weight = model, conditioning_weight

    def forward(self, images: Tensor) -> Tensor:
        terms = [nats.mean() for nats in self._nats(images)]
        return torch.stack(terms) / images[0].numel()

    def _nats(self, images: Tensor) -> Sequence[Tensor]:
        """Of each term, ``[N]``."""
        model = self.model
        if isinstance(model, PixelRecursiveSR):
            return model.terms(images, model.shrink(images), self.conditioning_weight)
        return [_own_nats(model, images)]


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
