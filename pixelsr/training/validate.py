"""Bits per dimension: what a model needs, on average, to name one value of a picture."""

import math

import torch
from torch import Tensor

from .. import functional
from ..models import PixelModel
from .objective import distributions


@torch.inference_mode()
def bits_per_dimension(model: PixelModel, images: Tensor, batch: int) -> dict[str, float]:
    """``-log2 p(y)`` divided by the number of values, mean over all images.

    Args:
        model: computed in eval mode, and put back into its own mode afterwards.
        images: uint8 ``[N, C, H, W]``.
        batch: images at a time; the result does not depend on it, beyond rounding.
    Returns:
        for `PixelRecursiveSR` "sum", of softmax(A + B), "conditioning", of softmax(A), and "prior",
        of softmax(B); for any other model "model".
    """
    was_training = model.training
    model.eval()
    totals: dict[str, float] = {}
    for some in images.split(batch):
        some = some.to(model.device)
        for name, logits in distributions(model, some).items():
            nats = functional.nats(logits, some).double().sum().item()
            totals[name] = totals.get(name, 0.0) + nats
    model.train(was_training)
    return {name: nats / (images.numel() * math.log(2)) for name, nats in totals.items()}
