"""The classifier of images with two corners, which is fitted to real digits alone."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .images import corners, elsewhere, place

CLASSES = ("exactly one", "none", "two", "blend", "misshapen")
"""The classes of images.

- exactly one: a digit in one corner and nothing else;
- none: nothing anywhere;
- two: a digit in each corner and nothing else;
- blend: anything else with ink in both corners or outside them;
- misshapen: ink in one corner alone that is no digit.
"""
NOTHING = 0.1
"""The fraction of the least ink of a real digit below which a corner counts as empty."""
TAIL = 0.001
"""The fraction of real digits beyond each threshold."""
BRIGHTEST = 10
"""The number of pixels whose mean is the brightness; the thinnest digits have hardly more."""
CHUNK = 500
"""The number of digits that are compared with all training digits at once."""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The limits that real digits keep, except a fraction of `TAIL` for each.

    Args:
        nothing: ink of an empty corner is below it; ink is the sum of intensities from 0 to 1.
        dimmest: least mean of a digit's `BRIGHTEST` pixels.
        roughest: largest sum of squared differences of neighbors over squared intensities.
        farthest: largest distance to the nearest training digit over the digit's own norm.
    """

    nothing: float
    dimmest: float
    roughest: float
    farthest: float


class DigitClassifier:
    """A classifier that tells digits, nothing and other things apart.

    Args:
        known: training digits, intensities from 0 to 1, ``[T, C, h, w]``.
        held_out: other digits, which determine the thresholds, ``[M, C, h, w]``.
    """

    def __init__(self, known: Tensor, held_out: Tensor) -> None:
        self.known = known.flatten(1)
        self.thresholds = Thresholds(
            nothing=NOTHING * _low(_ink(held_out)),
            dimmest=_low(_brightness(held_out)),
            roughest=_high(_roughness(held_out)),
            farthest=_high(self._distance(held_out)),
        )

    def is_digit(self, images: Tensor) -> Tensor:
        """Return True for each image that is a digit, bool ``[N]``."""
        limits = self.thresholds
        return (
            (_brightness(images) >= limits.dimmest)
            & (_roughness(images) <= limits.roughest)
            & (self._distance(images) <= limits.farthest)
        )

    def is_empty(self, images: Tensor) -> Tensor:
        """Return True for each image that is as good as black, bool ``[N]``."""
        return _ink(images) < self.thresholds.nothing

    def classify(self, images: Tensor) -> list[str]:
        """Return one of `CLASSES` for each image, ``[N, C, 2 h, 2 w]``."""
        found = [(self.is_digit(corner), self.is_empty(corner)) for corner in corners(images)]
        (digit, empty), (second_digit, second_empty) = found
        clean = self.is_empty(elsewhere(images))
        one = clean & (digit & second_empty | empty & second_digit)
        none = clean & empty & second_empty
        two = clean & digit & second_digit
        misshapen = clean & (empty ^ second_empty) & ~one
        table = torch.stack((one, none, two, ~(one | none | two | misshapen), misshapen), 1)
        return [CLASSES[k] for k in table.int().argmax(1).tolist()]

    def _distance(self, images: Tensor) -> Tensor:
        squares, nearest = self.known.square().sum(1), []
        for some in images.flatten(1).split(CHUNK):
            own = some.square().sum(1)
            least = (squares - 2 * some @ self.known.T).min(1).values + own
            nearest.append((least.clamp(min=0) / own.clamp(min=1e-6)).sqrt())
        return torch.cat(nearest)


def count(classes: Sequence[str]) -> dict[str, int]:
    """Return the number of images in each of `CLASSES`."""
    counts = Counter(classes)
    return {name: counts[name] for name in CLASSES}


def examples(digits: Tensor, seed: int) -> dict[str, tuple[str, Tensor]]:
    """Return images of known class by description: their class, and the images.

    Args:
        digits: real digits that the classifier has not seen, from 0 to 1, ``[N, C, h, w]``.
        seed: seed of the coins.
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
