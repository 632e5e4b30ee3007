"""Confidence intervals of proportions, and linear regression."""

import math
from statistics import NormalDist

import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr.models import ConditioningNetwork

Z = NormalDist().inv_cdf(0.975)
"""Of a two-sided interval of 95%."""


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's interval of 95% for the probability of a success.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    _check(successes, trials)
    share, z2 = successes / trials, Z**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    half = Z * spread / (1 + z2 / trials)
    # Rounding must not leave 0 of n, or n of n, outside.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return low, high


def binomial_test(successes: int, trials: int) -> float:
    """The exact two-sided p of an even coin: of all outcomes not likelier than the observed one.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    _check(successes, trials)
    fewer = min(successes, trials - successes)
    if 2 * fewer == trials:
        return 1.0
    tail = ways = 1
    for k in range(fewer):
        ways = ways * (trials - k) // (k + 1)  # of k + 1 successes
        tail += ways
    return 2 * tail / 2**trials  # whole numbers: exact until the division


def _check(successes: int, trials: int) -> None:
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"successes must be from 0 to the number of trials, which is at least 1; got "
            f"{successes} of {trials}"
        )


SIGMA = 0.1
"""Of the Gaussian, in intensities from 0 to 1; it scales the loss, and moves no optimum."""


class Regression(ConditioningNetwork):
    """The body of a conditioning network, and a single number for each value of the large image.

    ``nll = sum_i (y_i - mu_i(x))^2 / (2 sigma^2) + log(sigma sqrt(2 pi))``, values scaled to
    [0, 1]: the likelihood of Gaussians of one width, whose optimum is that of the squared error,
    the mean of all images that fit.

    Args:
        **options: the fields of `ConditioningNetworkConfig`.
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
        """The image: mu to the nearest level, uint8 ``[N, colors, H, W]``."""
        mu = self(low_res).clamp(0, 1) * (self.levels - 1)
        return mu.round().byte()
