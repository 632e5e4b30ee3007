"""The engines: each executes the same plan. Which can run here, and why the others cannot."""

import logging
from collections.abc import Callable

import torch

from pixelsr.ops.compiled import WHY_NOT_COMPILED, warn_of_missing_kernels

from .base import Engine
from .cpu.engine import CpuEngine
from .cuda.engine import CudaEngine
from .reference import ReferenceEngine
from .triton.engine import TritonEngine

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
        if reason is WHY_NOT_COMPILED:
            warn_of_missing_kernels()
    raise ValueError(f"no engine can run on {device}")


def engine_name(kind: type[Engine]) -> str:
    """Return the name of an engine's class."""
    return next(name for name, known in _CLASSES.items() if known is kind)
