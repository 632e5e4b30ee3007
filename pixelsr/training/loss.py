"""The losses of training and of validation, in nats and in bits per dimension."""

import math
from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.models import PixelModel, PixelRecursiveSR, PixelRNN
from pixelsr.utils.distributed import Workers
from pixelsr.utils.modules import in_eval_mode


def nll_by_term(model: PixelModel, images: Tensor) -> dict[str, Tensor]:
    """Return the nll of each image, nats ``[N]``, under each distribution of a model, by name.

    The model's own distribution comes first. The names are "sum" (A + B), "conditioning" (A alone)
    and "prior" (B alone) for `PixelRecursiveSR`, and "model" for any other model.

    Args:
        images: uint8 ``[N, C, H, W]``; low_res is computed from them by the model's `downsample`.
    """
    if not isinstance(model, PixelRecursiveSR):
        return {"model": model.nll(images)}
    conditioning = model.conditioning(model.downsample(images))
    prior = model.prior(images)
    total = functional.add_logits(prior, conditioning)
    every = {"sum": total, "conditioning": conditioning, "prior": prior}
    return {name: functional.nll(logits, images) for name, logits in every.items()}


def is_multi_scale(model: PixelModel) -> TypeGuard[PixelRNN]:
    """Return True if `model` is a multi-scale PixelRNN, which draws images from low_res."""
    return isinstance(model, PixelRNN) and model.config.scale_factor is not None


def check_size(model: PixelModel, size: Sequence[int]) -> None:
    """Check that a model can process images of this height and width.

    Raises:
        ValueError: a side is not a multiple of the model's scale factor.
    """
    factor = getattr(model, "scale_factor", 1)
    height, width = size
    if height % factor or width % factor:
        raise ValueError(
            f"the model has scale factor {factor}: images must have sides that are multiples of "
            f"{factor}, got {height}x{width}"
        )


class TrainingLoss(nn.Module):
    """The terms of the loss, in nats per dimension; the model's own distribution comes first.

    For `PixelRecursiveSR` they are -log softmax(A + B) and -log softmax(A / conditioning_weight);
    with a weight of 1 their sum is its ``loss`` divided by C * H * W, so that the learning rate
    does not depend on the image size. B alone has no term. This is a module so that it can be
    compiled, and wrapped in DistributedDataParallel, as a whole.

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
        """Return the nll of each term, ``[N]``."""
        model = self.model
        if isinstance(model, PixelRecursiveSR):
            return model.terms(images, conditioning_scale=self.conditioning_weight)
        return [model.nll(images)]


ALONE = Workers()


@torch.inference_mode()
def bits_per_dimension(
    model: PixelModel,
    images: Tensor,
    batch: int,
    workers: Workers = ALONE,
    advance: Callable[[float], None] = lambda done: None,
) -> dict[str, float]:
    """Return ``-log2 p(y) / (C H W)``, mean over all images, under each distribution of a model.

    Args:
        model: run in eval mode; its own mode is restored afterwards.
        images: uint8 ``[N, C, H, W]``.
        batch: images at a time; the result does not depend on it, beyond rounding.
        workers: the workers that share the images; each gets the result for all of them.
        advance: called with the fraction done after each batch, equally often in each worker. An
            exception that it raises ends the measurement.
    Returns:
        Bits by name. For `PixelRecursiveSR`: "sum" for softmax(A + B), "conditioning" for
        softmax(A), "prior" for softmax(B); for any other model "model".
    """
    with in_eval_mode(model):
        totals = _sums(model, images, batch, workers, advance)
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
    """Return the total nll of this worker's share of the images, in nats, by name."""
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
    """Convert bits per dimension to nats per image: ``bits * C * H * W * ln 2``.

    Args:
        images: ``[N, C, H, W]``, the images that `bits` was measured on.
    """
    return bits * math.prod(images.shape[1:]) * math.log(2)
