"""The exponential moving average of the weights."""

import torch

from pixelsr.models import PixelModel
from pixelsr.utils.modules import copy_model


class Ema:
    """A second model whose weights follow the first's: ``a += (1 - decay) * (weights - a)``.

    Early on the decay is ``(1 + step) / (10 + step)`` where that is less, so that the first,
    untrained weights are soon forgotten. Buffers are copied.
    """

    def __init__(self, model: PixelModel, decay: float) -> None:
        self.model = copy_model(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: PixelModel, step: int) -> None:
        """Follow `model` after its step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for copied, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            copied.copy_(buffer)
