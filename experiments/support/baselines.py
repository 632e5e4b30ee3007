"""Baselines without a prior: L2 regression, and independent draws from a conditioning network."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr.models import ConditioningNetwork
from pixelsr.sampling.noise import draw, gumbel_noise

SIGMA = 0.1
"""The deviation of the Gaussian for intensities in [0, 1]; the optimum does not depend on it."""
BATCH = 32


class Regression(ConditioningNetwork):
    """The body of a conditioning network, with one output for each value of the large image.

    ``nll = sum_i (y_i - mu_i(x))^2 / (2 sigma^2) + log(sigma sqrt(2 pi))``, for values scaled to
    [0, 1]: the likelihood of Gaussians of one width. Its optimum is the optimum of the squared
    error, the mean of all images that fit.

    Args:
        **options: fields of `ConditioningNetworkConfig`.
    Shape:
        low_res, uint8 ``[N, colors, h, w]``, to mu, float ``[N, colors, H, W]``.
    """

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        c = self.config
        self.out = nn.Conv2d(c.channels, c.colors, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, low_res: Tensor) -> Tensor:
        return self.out(self.features(low_res))

    def nll(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        low_res = self.downsample(images) if low_res is None else low_res
        truth = images / (self.levels - 1)
        errors = F.mse_loss(self(low_res).float(), truth, reduction="none").flatten(1).sum(1)
        width = math.log(SIGMA * math.sqrt(2 * math.pi))
        return errors / (2 * SIGMA**2) + width * images[0].numel()

    def answer(self, low_res: Tensor) -> Tensor:
        """Return mu, rounded to the nearest level, uint8 ``[N, colors, H, W]``."""
        mu = self(low_res).clamp(0, 1) * (self.levels - 1)
        return mu.round().byte()


@torch.inference_mode()
def draw_independently(
    model: ConditioningNetwork, low_res: Tensor, n: int = 1, seed: int = 0
) -> Tensor:
    """Draw each value by itself, with the noise that `pixelsr.sample` uses.

    The drawn level is ``argmax(A(low_res) + noise)``.

    Args:
        model: network in eval mode.
        low_res: uint8 ``[M, C, h, w]``.
        n: samples of each small image.
    Returns:
        uint8 ``[M * n, C, H, W]`` on the CPU, with the samples of one input side by side.
    """
    parts, index = [], 0
    for some in low_res.split(BATCH):
        logits = model(some.to(model.device)).repeat_interleave(n, 0)
        levels, colors, height, width = logits.shape[1:]
        values = logits.permute(0, 3, 4, 2, 1).flatten(1, 3)  # [samples, positions, levels]
        noise = gumbel_noise(seed, index, len(values), 0, values.shape[1], levels, values.device)
        drawn = draw(values, noise, 1.0).view(-1, height, width, colors)
        parts.append(drawn.permute(0, 3, 1, 2).to("cpu", torch.uint8))
        index += len(values)
    return torch.cat(parts)
