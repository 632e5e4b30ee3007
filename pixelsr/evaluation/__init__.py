"""How good a model is: bits per dimension, and its enlargements beside simple baselines."""

from .api import evaluate
from .report import Draws, Enlargement, Report, Scores

__all__ = ["Draws", "Enlargement", "Report", "Scores", "evaluate"]
