"""The engines: each executes the same plan. Which can run here, and why the others cannot."""

import logging
from collections.abc import Callable

import torch

from ..plan import Plan, plan
from ..request import Request
from .base import Engine
from .cpu import CpuEngine
from .cuda import CudaEngine
from .reference import ReferenceEngine
from .triton import TritonEngine

_log = logging.getLogger("pixelsr")

_CLASSES: dict[str, type[Engine]] = {
    "cuda": CudaEngine,
    "triton": TritonEngine,
    "cpu": CpuEngine,
    "reference": ReferenceEngine,
}

ENGINES: dict[str, Callable[[torch.device], str | None]] = {
    name: kind.why_not_here for name, kind in _CLASSES.items()
}
"""For each engine, the best first: None where it can run on a device, otherwise the reason."""


def why_not(name: str, device: torch.device) -> str | None:
    """Why an engine cannot run on a device; None where it can."""
    return ENGINES[name](device)


def why_not_auto(name: str, device: torch.device) -> str | None:
    """Why "auto" passes an engine over on a device; None where it does not."""
    return why_not(name, device) or _CLASSES[name].is_worth_it(device)


def choose_engine(
    name: str,
    device: torch.device,
    why_not_more: Callable[[type[Engine]], str | None] | None = None,
) -> type[Engine]:
    """The named engine, or with "auto" the best that can run.

    Args:
        why_not_more: a further reason against an engine, beyond the device.
    Raises:
        ValueError: the name is unknown, or the explicitly named engine cannot run; it says why.
    """
    if name not in ("auto", *ENGINES):
        raise ValueError(f"engine must be auto or one of {list(ENGINES)}, got {name!r}")
    for candidate in ENGINES if name == "auto" else [name]:
        reason = (why_not_auto if name == "auto" else why_not)(candidate, device)
        if reason is None and why_not_more is not None:
            reason = why_not_more(_CLASSES[candidate])
        if reason is None:
            return _CLASSES[candidate]
        if name != "auto":
            raise ValueError(f"engine {name!r} cannot run: {reason}")
        _log.debug("engine %r passed over: %s", candidate, reason)
    raise ValueError(f"no engine can run on {device}")


@torch.inference_mode(False)  # what it makes may be written to outside of that mode
@torch.no_grad()
def start_engine(name: str, request: Request) -> Engine:
    """The engine, with its plan made and the first rows filled in.

    Raises:
        ValueError: as `choose_engine` does.
        PlanError: the model has no plan.
    """
    made = _plan(request)
    return _choose(name, made, request)(made, request)


def resolve_engine(name: str, request: Request) -> str:
    """The name of the engine that draws what is asked for, where "auto" may have chosen it.

    Raises:
        ValueError, PlanError: as `start_engine` does.
    """
    chosen = _choose(name, _plan(request), request)
    return next(name for name, kind in _CLASSES.items() if kind is chosen)


def _plan(request: Request) -> Plan:
    low_res = request.low_res
    low_res_size = None if low_res is None else (low_res.shape[2], low_res.shape[3])
    return plan(request.model, request.image_size, low_res_size)


def _choose(name: str, made: Plan, request: Request) -> type[Engine]:
    return choose_engine(name, request.device, lambda kind: kind.why_not(made, request))
