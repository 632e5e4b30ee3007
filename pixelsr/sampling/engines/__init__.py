"""The engines that execute a plan, and the choice of one that can run on a device."""

import logging
from collections.abc import Callable

import torch

from pixelsr.config import choices
from pixelsr.ops.compiled import WHY_NOT_COMPILED, warn_of_missing_kernels

from .base import Engine
from .cpu.engine import CpuEngine
from .cuda.engine import CudaEngine
from .reference import ReferenceEngine
from .triton.engine import TritonEngine

_log = logging.getLogger("pixelsr")

_CLASSES: dict[str, type[Engine]] = dict(
    zip(choices.ENGINES, (CudaEngine, TritonEngine, CpuEngine, ReferenceEngine), strict=True)
)

ENGINES: dict[str, Callable[[torch.device], str | None]] = {
    name: kind.why_not_here for name, kind in _CLASSES.items()
}
"""For each engine, best first, a function that returns why it cannot run on a device, or None."""


def why_not(name: str, device: torch.device) -> str | None:
    """Return the reason why an engine cannot run on a device, or None if it can."""
    return ENGINES[name](device)


def why_not_auto(name: str, device: torch.device) -> str | None:
    """Return the reason why "auto" skips an engine on a device, or None if it does not."""
    return why_not(name, device) or _CLASSES[name].is_worth_it(device)


def choose_engine(
    name: str,
    device: torch.device,
    why_not_more: Callable[[type[Engine]], str | None] | None = None,
) -> type[Engine]:
    """Return the class of the named engine, or with "auto" of the best engine that can run.

    Args:
        why_not_more: returns a further reason against an engine, or None.
    Raises:
        ValueError: the name is unknown, or the named engine cannot run. The message says why.
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
    """Return the name of an engine class."""
    return next(name for name, known in _CLASSES.items() if known is kind)
