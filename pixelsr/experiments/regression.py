"""L2 regression: what a network answers that must name one value for each pixel."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ..models import ConditioningNetwork

SIGMA = 0.1
"""Of the Gaussian, in intensities from 0 to 1; it scales the loss, and moves no optimum."""


class Regression(ConditioningNetwork):
    """The body of a conditioning network, and a single number for each value of the large picture.

    ``nats = sum_i (y_i - mu_i(x))^2 / (2 sigma^2) + log(sigma sqrt(2 pi))``, values scaled to
    [0, 1]: the likelihood of Gaussians of one width, whose optimum is that of the squared error,
    the mean of all pictures that fit.

    Args:
        **options: the fields of `ConditioningNetworkConfig`.
    Shape:
        low_res, uint8 ``[N, colours, h, w]``, to mu, float ``[N, colours, H, W]``.
    """

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        c = self.config
        self.out = nn.Conv2d(c.channels, c.colours, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, low_res: Tensor) -> Tensor:
        return self.out(self.features(low_res))

    def nats(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        low_res = self.shrink(images) if low_res is None else low_res
        truth = images / (self.levels - 1)
        errors = F.mse_loss(self(low_res).float(), truth, reduction="none").flatten(1).sum(1)
        width = math.log(SIGMA * math.sqrt(2 * math.pi))
        return errors / (2 * SIGMA**2) + width * images[0].numel()

    def answer(self, low_res: Tensor) -> Tensor:
        """The picture: mu to the nearest level, uint8 ``[N, colours, H, W]``."""
        mu = self(low_res).clamp(0, 1) * (self.levels - 1)
        return mu.round().byte()
