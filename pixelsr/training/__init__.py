"""Training: pictures in, weights out; the same weights after an interruption as without one."""

from .config import Budget, Intervals, Recipe
from .loss import bits_per_dimension
from .run_dir import RunFiles
from .trainer import Trainer

__all__ = ["Budget", "Intervals", "Recipe", "RunFiles", "Trainer", "bits_per_dimension"]
