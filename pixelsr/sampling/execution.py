"""From a request to the engine that executes its plan."""

import torch

from .engines import choose_engine, engine_name
from .engines.base import Engine
from .plan import Plan
from .planning import plan
from .request import Request


def plan_of(request: Request) -> Plan:
    """Return the plan of a request.

    Raises:
        PlanError: the model has no plan.
    """
    low_res = request.low_res
    size = None if low_res is None else (int(low_res.shape[2]), int(low_res.shape[3]))
    return plan(request.model, request.image_size, size)


@torch.inference_mode(False)  # what it makes may be written to outside of that mode
@torch.no_grad()
def start_engine(name: str, request: Request) -> Engine:
    """Return the engine, with its plan made and the first rows filled in.

    Raises:
        ValueError: as `choose_engine` does.
        PlanError: the model has no plan.
    """
    made = plan_of(request)
    return _choose(name, made, request)(made, request)


def resolve_engine(name: str, request: Request) -> str:
    """Return the name of the engine that draws a request, where "auto" may have chosen it.

    Raises:
        ValueError, PlanError: as `start_engine` does.
    """
    return engine_name(_choose(name, plan_of(request), request))


def _choose(name: str, made: Plan, request: Request) -> type[Engine]:
    return choose_engine(name, request.device, lambda kind: kind.why_not(made, request))
