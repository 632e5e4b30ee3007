"""The choice of what draws a request: an engine with its plan, or the whole network."""

import torch

from .ancestral import AncestralEngine
from .engines import choose_engine
from .engines.base import Engine, PlanEngine
from .plan import Plan
from .plan_cache import plan_of
from .request import Request

METHODS = ("cached", "ancestral")


@torch.inference_mode(False)  # callers may write to its tensors outside of inference mode
@torch.no_grad()
def start_engine(name: str, request: Request, method: str = "cached") -> Engine:
    """Return the engine for a request, ready to draw.

    Args:
        name: the name of an engine that executes a plan, for the cached method.
    Raises:
        ValueError: as in `choose_engine`.
        PlanError: the model has no plan.
    """
    if method == "ancestral":
        return AncestralEngine(request)
    made = plan_of(request)
    return resolve_engine(name, made, request)(made, request)


def resolve_engine(name: str, made: Plan, request: Request) -> type[PlanEngine]:
    """Return the engine that draws a request; "auto" is resolved.

    Raises:
        ValueError: as in `choose_engine`.
    """
    return choose_engine(
        name, request.device, lambda engine: engine.unsupported_reason(made, request)
    )
