"""The learning rate over a run."""

import math

from .recipe import Recipe


def learning_rate(recipe: Recipe, step: int, used: float) -> float:
    """Linear warm-up, times the recipe's schedule.

    "cosine": half a wave from the peak to ``floor`` times the peak; "halving": the peak times
    ``0.5 ** (step // halve_every)``.

    Args:
        recipe: gives peak, warm-up and schedule.
        step: steps taken before this one.
        used: fraction of the budget that is used, 0 to 1.
    """
    rise = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.schedule == "halving":
        return float(recipe.lr * rise * 0.5 ** (step // recipe.halve_every))
    cosine = 0.5 * (1 + math.cos(math.pi * used))
    return recipe.lr * rise * (recipe.floor + (1 - recipe.floor) * cosine)
