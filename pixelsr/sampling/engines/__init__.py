"""The engines that execute a plan, and the choice of one that can run on a device."""

import logging
from collections.abc import Callable

import torch

from pixelsr.ops.compiled import WHY_NOT_COMPILED, warn_of_missing_kernels

from .base import PlanEngine
from .cpu.engine import CpuEngine
from .cuda.engine import CudaEngine
from .reference import ReferenceEngine
from .triton.engine import TritonEngine

_log = logging.getLogger("pixelsr")

ENGINES: dict[str, type[PlanEngine]] = {
    engine.name: engine for engine in (CudaEngine, TritonEngine, CpuEngine, ReferenceEngine)
}
"""The engines by name, best first."""


def unsupported_reason(name: str, device: torch.device) -> str | None:
    """Return the reason why the named engine cannot run on a device, or None if it can."""
    return ENGINES[name].device_unsupported_reason(device)


def auto_reason(name: str, device: torch.device) -> str | None:
    """Return the reason why "auto" does not take the named engine on a device, or None."""
    return unsupported_reason(name, device) or ENGINES[name].skip_reason(device)


def choose_engine(
    name: str,
    device: torch.device,
    more_reasons: Callable[[type[PlanEngine]], str | None] = lambda engine: None,
) -> type[PlanEngine]:
    """Return the class of the named engine, or with "auto" of the best engine that can run.

    Args:
        more_reasons: returns a further reason against an engine, or None.
    Raises:
        ValueError: the name is unknown, or the named engine cannot run. The message says why.
    """
    if name not in ("auto", *ENGINES):
        raise ValueError(f"engine must be auto or one of {list(ENGINES)}, got {name!r}")
    reason_on = auto_reason if name == "auto" else unsupported_reason
    for candidate in ENGINES if name == "auto" else [name]:
        reason = reason_on(candidate, device) or more_reasons(ENGINES[candidate])
        if reason is None:
            return ENGINES[candidate]
        if name != "auto":
            raise ValueError(f"engine {name!r} cannot run: {reason}")
        _log.debug("engine %r passed over: %s", candidate, reason)
        if reason is WHY_NOT_COMPILED:
            warn_of_missing_kernels()
    raise ValueError(f"no engine can run on {device}")
