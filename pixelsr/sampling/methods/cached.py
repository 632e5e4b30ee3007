"""Every feature computed once: the plan, executed by an engine."""

from torch import Tensor

from ..request import Request
from ..state import State
from .drawing import Drawing


def cached(request: Request, drawing: Drawing, engine: str) -> Tensor:
    """Draw value by value, each from what the plan has computed so far."""
    state = State(request, engine)
    logits = state.step()
    while logits is not None and state.position is not None:
        logits = state.step(drawing.values(request, state.position, logits))
    return state.images
