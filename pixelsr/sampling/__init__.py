"""Drawing pictures from a model, each feature computed once."""

from .api import sample
from .incremental.api import Evaluation, evaluate
from .plan import Plan
from .plan_cache import plan
from .state import State, logits, start

__all__ = ["Evaluation", "Plan", "State", "evaluate", "logits", "plan", "sample", "start"]
