"""Shares of so many trials: an interval, and the test against an even coin."""

import math
from statistics import NormalDist

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
