"""Confidence intervals and tests of proportions."""

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)
"""The normal quantile of a two-sided interval of 95%."""


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's interval of 95% for the probability of a success.

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    _check(successes, trials)
    share, z2 = successes / trials, Z**2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    spread = math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    half = Z * spread / (1 + z2 / trials)
    # Rounding must not exclude the observed share at 0 of n or n of n.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return low, high


def binomial_test(successes: int, trials: int) -> float:
    """Return the p value of an exact two-sided test against a fair coin.

    It is the probability of all outcomes that are at most as likely as the observed one.

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    _check(successes, trials)
    fewer = min(successes, trials - successes)
    if 2 * fewer == trials:
        return 1.0
    tail = ways = 1
    for k in range(fewer):
        ways = ways * (trials - k) // (k + 1)  # ways to have k + 1 successes
        tail += ways
    return 2 * tail / 2**trials  # integers: exact until the division


def _check(successes: int, trials: int) -> None:
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"successes must be from 0 to the number of trials, which is at least 1; got "
            f"{successes} of {trials}"
        )
