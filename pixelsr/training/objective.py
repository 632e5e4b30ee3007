"""What is trained and measured: a model's distributions over the values of a picture."""

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from .. import functional
from ..data.area import area_average
from ..models import ConditioningNetwork, PixelModel, PixelRecursiveSR, PixelRNN


def distributions(model: PixelModel, images: Tensor) -> dict[str, Tensor]:
    """Logits ``[N, L, C, H, W]`` of each distribution that a model gives, its own first.

    For `PixelRecursiveSR` "sum", A + B, "conditioning", A alone, and "prior", B alone; for any
    other model "model".

    Args:
        images: uint8 ``[N, C, H, W]``; the small pictures are their area averages.
    """
    if isinstance(model, ConditioningNetwork):
        return {"model": model(area_average(images, model.magnification))}
    if is_multi_scale(model):
        return {"model": model(images, area_average(images, model.magnification))}
    if not isinstance(model, PixelRecursiveSR):
        return {"model": model(images)}
    conditioning = model.conditioning(area_average(images, model.magnification))
    prior = model.prior(images)
    total = functional.add_logits(conditioning, prior)
    return {"sum": total, "conditioning": conditioning, "prior": prior}


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
            low_res = area_average(images, model.magnification)
            return model.terms(images, low_res, self.conditioning_weight)
        if isinstance(model, ConditioningNetwork):
            return [functional.nats(model(area_average(images, model.magnification)), images)]
        if is_multi_scale(model):
            return [model.nats(images, area_average(images, model.magnification))]
        return [model.nats(images)]
