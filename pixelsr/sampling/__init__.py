"""Drawing pictures from a model, each feature computed once."""

from .plan import Plan, plan
from .sample import sample
from .state import State, logits, start

__all__ = ["Plan", "State", "logits", "plan", "sample", "start"]
