"""The learning rate over a run."""

import math

from .recipe import Recipe


def learning_rate(recipe: Recipe, step: int, used: float) -> float:
    """Linear warm-up, then half a cosine from the peak to ``floor`` times the peak.

    Args:
        recipe: gives peak, warm-up and floor.
        step: steps taken before this one.
        used: fraction of the budget that is used, 0 to 1.
    """
    rise = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * used))
    return recipe.lr * rise * (recipe.floor + (1 - recipe.floor) * cosine)
