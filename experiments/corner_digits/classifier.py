"""What is in an image of two corners, found by a program that knows real digits alone."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .images import corners, elsewhere, place

VERDICTS = ("exactly one", "none", "two", "blend", "misshapen")
"""A digit in one corner and nothing else; nothing anywhere; a digit in each; something in both
corners, or outside them, that is not that; and something in one corner alone that is no digit."""
NOTHING = 0.1
"""A share of the least ink of a real digit: with less, there is nothing."""
TAIL = 0.001
"""The share of real digits that is beyond each threshold."""
BRIGHTEST = 10
"""Pixels whose mean is the brightness of a digit, hardly more than the thinnest ones have."""
CHUNK = 500
"""Digits at once that are compared with all training digits."""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What real digits keep to, but for `TAIL` of them for each.

    Args:
        nothing: ink, the sum of intensities from 0 to 1, below which there is nothing.
        dimmest: mean of its `BRIGHTEST` pixels.
        roughest: squared differences of neighbors, in sum, over squared intensities.
        farthest: distance to the nearest training digit, over the length of the digit as a vector.
    """

    nothing: float
    dimmest: float
    roughest: float
    farthest: float


class Judge:
    """Tells digits, nothing and other things apart.

    Args:
        known: training digits, intensities from 0 to 1, ``[T, C, h, w]``.
        held_out: others, ``[M, C, h, w]``, which the thresholds are taken from.
    """

    def __init__(self, known: Tensor, held_out: Tensor) -> None:
        self.known = known.flatten(1)
        self.thresholds = Thresholds(
            nothing=NOTHING * _low(_ink(held_out)),
            dimmest=_low(_brightness(held_out)),
            roughest=_high(_roughness(held_out)),
            farthest=_high(self._distance(held_out)),
        )

    def digits(self, images: Tensor) -> Tensor:
        """Which are digits, bool ``[N]``."""
        limits = self.thresholds
        return (
            (_brightness(images) >= limits.dimmest)
            & (_roughness(images) <= limits.roughest)
            & (self._distance(images) <= limits.farthest)
        )

    def nothing(self, images: Tensor) -> Tensor:
        """Which are as good as black, bool ``[N]``."""
        return _ink(images) < self.thresholds.nothing

    def verdicts(self, images: Tensor) -> list[str]:
        """One of `VERDICTS` for each image, ``[N, C, 2 h, 2 w]``."""
        found = [(self.digits(corner), self.nothing(corner)) for corner in corners(images)]
        (digit, empty), (second_digit, second_empty) = found
        clean = self.nothing(elsewhere(images))
        one = clean & (digit & second_empty | empty & second_digit)
        none = clean & empty & second_empty
        two = clean & digit & second_digit
        misshapen = clean & (empty ^ second_empty) & ~one
        table = torch.stack((one, none, two, ~(one | none | two | misshapen), misshapen), 1)
        return [VERDICTS[k] for k in table.int().argmax(1).tolist()]

    def _distance(self, images: Tensor) -> Tensor:
        squares, nearest = self.known.square().sum(1), []
        for some in images.flatten(1).split(CHUNK):
            own = some.square().sum(1)
            least = (squares - 2 * some @ self.known.T).min(1).values + own
            nearest.append((least.clamp(min=0) / own.clamp(min=1e-6)).sqrt())
        return torch.cat(nearest)


def count(verdicts: Sequence[str]) -> dict[str, int]:
    """How often each of `VERDICTS` was given."""
    counts = Counter(verdicts)
    return {verdict: counts[verdict] for verdict in VERDICTS}


def examples(digits: Tensor, seed: int) -> dict[str, tuple[str, Tensor]]:
    """Images whose verdict is known: what they are, the verdict, and the images.

    Args:
        digits: real ones that the judge has not seen, from 0 to 1, ``[N, C, h, w]``.
        seed: of the coins.
    """
    coin = torch.Generator().manual_seed(seed)
    black = torch.zeros_like(digits)
    first, second = place(digits, black), place(black, digits)
    in_second = torch.rand(first.shape, generator=coin) < 0.5
    return {
        "two different digits": ("two", place(digits, digits.roll(1, 0))),
        "mean of both corners": ("blend", (first + second) / 2),
        "each pixel from either corner": ("blend", torch.where(in_second, second, first)),
        "black": ("none", place(black, black)),
    }


def _ink(images: Tensor) -> Tensor:
    return images.flatten(1).sum(1)


def _brightness(images: Tensor) -> Tensor:
    return images.flatten(1).topk(BRIGHTEST, 1).values.mean(1)


def _roughness(images: Tensor) -> Tensor:
    framed = F.pad(images, (1, 1, 1, 1))
    differences = [framed.diff(dim=axis).square().flatten(1).sum(1) for axis in (2, 3)]
    return sum(differences, torch.tensor(0.0)) / images.flatten(1).square().sum(1).clamp(min=1e-6)


def _low(values: Tensor) -> float:
    return values.quantile(TAIL).item()


def _high(values: Tensor) -> float:
    return values.quantile(1 - TAIL).item()
