"""Evaluation of models: bits per dimension, and super-resolution against simple baselines."""

from .api import evaluate
from .report import Draws, Enlargement, Report, Scores

__all__ = ["Draws", "Enlargement", "Report", "Scores", "evaluate"]
