"""Drawing pictures from a model, each feature computed once."""

from .evaluation import Evaluation, evaluate
from .plan import Plan
from .planning import plan
from .sample import sample
from .state import State, logits, start

__all__ = ["Evaluation", "Plan", "State", "evaluate", "logits", "plan", "sample", "start"]
