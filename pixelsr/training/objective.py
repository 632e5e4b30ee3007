"""What is trained and measured: how likely a model finds pictures."""

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.models import PixelModel, PixelRecursiveSR, PixelRNN


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
