"""Training: pictures in, weights out; the same weights after an interruption as without one."""

from .files import RunFiles
from .loop import Trainer
from .recipe import Budget, Intervals, Recipe
from .validate import bits_per_dimension

__all__ = ["Budget", "Intervals", "Recipe", "RunFiles", "Trainer", "bits_per_dimension"]
