"""One predicate per backend of an operator: None where it can run this, otherwise the reason."""

import logging
from collections.abc import Callable, Mapping

from torch import Tensor

_log = logging.getLogger("pixelsr")

Predicate = Callable[[Tensor], str | None]


def can_run_reference(x: Tensor) -> str | None:
    return None


def can_run_cropped(x: Tensor) -> str | None:
    return None if x.is_floating_point() else f"it takes floating-point input, got {x.dtype}"


MASKED_CONV2D: Mapping[str, Predicate] = {
    "cropped": can_run_cropped,
    "reference": can_run_reference,
}
"""Backends of masked_conv2d, the best first."""


def choose(backend: str, backends: Mapping[str, Predicate], x: Tensor) -> str:
    """The named backend, or with "auto" the first that can run.

    Raises:
        ValueError: the name is unknown, or the explicitly named backend cannot run this input.
    """
    if backend != "auto":
        if backend not in backends:
            raise ValueError(f"backend must be auto or one of {list(backends)}, got {backend!r}")
        if why_not := backends[backend](x):
            raise ValueError(f"backend {backend!r} cannot run this: {why_not}")
        return backend
    for name, can_run in backends.items():
        if why_not := can_run(x):
            _log.debug("backend %r passed over: %s", name, why_not)
            continue
        return name
    raise ValueError(f"no backend can run this input of dtype {x.dtype} on {x.device}")
