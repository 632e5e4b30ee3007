"""The losses of training and of validation, in nats and in bits per dimension."""

import math
from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.models import PixelModel, PixelRecursiveSR, PixelRNN
from pixelsr.utils.distributed import Workers


def nll_by_term(model: PixelModel, images: Tensor) -> dict[str, Tensor]:
    """``-log p`` of each image, nats ``[N]``, by each distribution of a model, its own first.

    For `PixelRecursiveSR` "sum", A + B, "conditioning", A alone, and "prior", B alone; for any
    other model "model".

    Args:
        images: uint8 ``[N, C, H, W]``; the small images are what the model's `downsample` makes.
    """
    if not isinstance(model, PixelRecursiveSR):
        return {"model": _own_nll(model, images)}
    conditioning = model.conditioning(model.downsample(images))
    prior = model.prior(images)
    total = functional.add_logits(conditioning, prior)
    every = {"sum": total, "conditioning": conditioning, "prior": prior}
    return {name: functional.nll(logits, images) for name, logits in every.items()}


def _own_nll(model: PixelModel, images: Tensor) -> Tensor:
    return (
        model.nll(images, model.downsample(images)) if is_multi_scale(model) else model.nll(images)
    )


def is_multi_scale(model: PixelModel) -> TypeGuard[PixelRNN]:
    """Is it a recurrent network that draws an image from a small one?"""
    return isinstance(model, PixelRNN) and model.config.scale_factor is not None


def check_size(model: PixelModel, size: Sequence[int]) -> None:
    """That a model has distributions over images of this height and width.

    Raises:
        ValueError: they are no multiples of its scale factor.
    """
    factor = getattr(model, "scale_factor", 1)
    height, width = size
    if height % factor or width % factor:
        raise ValueError(
            f"the model magnifies {factor} times: images must have sides that are multiples of "
            f"{factor}, got {height}x{width}"
        )


class TrainingLoss(nn.Module):
    """The terms of the loss, nats per value; the first is that of the model's own distribution.

    For `PixelRecursiveSR` they are -log softmax(A + B) and -log softmax(A / conditioning_weight);
    with a weight of 1 their sum is its ``loss`` divided by the number of values of an image, so
    that the learning rate does not depend on the size. B alone has no term. A module, so that it
    can be compiled, and wrapped for several workers, as a whole.

    Shape:
        uint8 ``[N, C, H, W]`` to ``[terms]``, means over the N images.
    """

    def __init__(self, model: PixelModel, conditioning_weight: float = 1.0) -> None:
        super().__init__()
        self.model, self.conditioning_weight = model, conditioning_weight

    def forward(self, images: Tensor) -> Tensor:
        terms = [nll.mean() for nll in self._nll(images)]
        return torch.stack(terms) / images[0].numel()

    def _nll(self, images: Tensor) -> Sequence[Tensor]:
        """Of each term, ``[N]``."""
        model = self.model
        if isinstance(model, PixelRecursiveSR):
            return model.terms(images, model.downsample(images), self.conditioning_weight)
        return [_own_nll(model, images)]


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
    return {name: nll / (images.numel() * math.log(2)) for name, nll in sums.items()}


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
            for name, nll in nll_by_term(model, some).items():
                totals[name] = totals.get(name, 0.0) + nll.double().sum().item()
        advance(min(1.0, (first + batch) / largest_share))
    return totals


def nats_per_image(bits: float, images: Tensor) -> float:
    """Bits per dimension as nats of a whole image: ``bits * values * ln 2``.

    Args:
        images: ``[N, C, H, W]``, those that the bits are of; an image has ``C * H * W`` values.
    """
    return bits * math.prod(images.shape[1:]) * math.log(2)
