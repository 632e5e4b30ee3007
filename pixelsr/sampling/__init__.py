"""Sampling of images from a model, with each feature computed only once."""

from .api import sample
from .incremental.api import IncrementalLogits, incremental_logits
from .plan import Plan
from .plan_cache import plan
from .state import State, logits, start

__all__ = [
    "IncrementalLogits",
    "Plan",
    "State",
    "incremental_logits",
    "logits",
    "plan",
    "sample",
    "start",
]
