"""The engines: each executes the same plan. Which can run here, and why the others cannot."""

import logging
from collections.abc import Callable

import torch

from .reference import ReferenceEngine

_log = logging.getLogger("pixelsr")


def can_run_reference(device: torch.device) -> str | None:
    return None


def _absent(kind: str) -> Callable[[torch.device], str | None]:
    return lambda device: f"this version has no {kind} engine"


ENGINES: dict[str, Callable[[torch.device], str | None]] = {
    "cuda": _absent("CUDA"),
    "triton": _absent("Triton"),
    "cpu": _absent("C++"),
    "reference": can_run_reference,
}
"""For each engine, the best first: None where it can run on a device, otherwise the reason."""

_CLASSES = {"reference": ReferenceEngine}


def why_not(name: str, device: torch.device) -> str | None:
    """Why an engine cannot run on a device; None where it can."""
    return ENGINES[name](device)


def choose_engine(name: str, device: torch.device) -> type[ReferenceEngine]:
    """The named engine, or with "auto" the best that can run.

    Raises:
        ValueError: the name is unknown, or the explicitly named engine cannot run; it says why.
    """
    if name not in ("auto", *ENGINES):
        raise ValueError(f"engine must be auto or one of {list(ENGINES)}, got {name!r}")
    for candidate in ENGINES if name == "auto" else [name]:
        reason = why_not(candidate, device)
        if reason is None:
            return _CLASSES[candidate]
        if name != "auto":
            raise ValueError(f"engine {name!r} cannot run: {reason}")
        _log.debug("engine %r passed over: %s", candidate, reason)
    raise ValueError(f"no engine can run on {device}")
