"""The backends of each operator and the choice between them."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pixelsr.utils.transforms import is_transformed

from .compiled import WHY_NOT_COMPILED, warn_of_missing_kernels
from .registry import HAS_TRITON, interprets

_log = logging.getLogger("pixelsr")

_FASTEST: dict[str, dict[str, str]] = json.loads(
    (Path(__file__).parent / "fastest.json").read_text()
)
"""The fastest backend by GPU and operator, measured by `benchmarks.tools.fastest`."""


def _no_reason(x: Tensor) -> None:
    return None


class Backend(NamedTuple):
    """A backend of an operator, as two functions that return a reason or None.

    Attributes:
        unsupported_reason: the reason why the backend cannot run an input.
        skip_reason: the reason why "auto" skips the backend although it can run an input.
    """

    unsupported_reason: Callable[[Tensor], str | None] = _no_reason
    skip_reason: Callable[[Tensor], str | None] = _no_reason

    def auto_reason(self, x: Tensor) -> str | None:
        """Return the reason why "auto" does not take the backend for an input, or None."""
        return self.unsupported_reason(x) or self.skip_reason(x)


def _cropped_unsupported(x: Tensor) -> str | None:
    return None if x.is_floating_point() else f"it takes floating-point input, got {x.dtype}"


def _triton_unsupported(x: Tensor) -> str | None:
    if not HAS_TRITON:
        return "triton is not installed"
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"its kernels take float32, float16 or bfloat16, got {x.dtype}"
    if x.device.type == "cpu" and interprets():
        return None
    if x.device.type != "cuda":
        return f"its kernels need a GPU, or TRITON_INTERPRET=1 on a CPU, got {x.device}"
    major = torch.cuda.get_device_properties(x.device).major
    return None if major >= 8 else f"its kernels need compute capability 8.0, got {major}.x"


def _cpu_unsupported(x: Tensor) -> str | None:
    if x.device.type != "cpu":
        return f"its kernels are for the CPU, got {x.device}"
    if x.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        return f"its kernels take float64, float32, float16 or bfloat16, got {x.dtype}"
    return WHY_NOT_COMPILED


def _skip_interpreter(x: Tensor) -> str | None:
    return None if x.device.type == "cuda" else "the interpreter is for tests"


def fastest(operator: str, device: torch.device) -> str | None:
    """Return the fastest backend of an operator on a GPU, or None if it was not measured."""
    return _FASTEST.get(torch.cuda.get_device_name(device), {}).get(operator)


# The effect of `torch.compiler.assume_constant_result`, which would import Dynamo (1.7 s).
fastest._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _skip_unmeasured(x: Tensor) -> str | None:
    if x.device.type != "cuda" or fastest("masked_conv2d", x.device) == "triton":
        return _skip_interpreter(x)
    return "no benchmark shows that it is the fastest on this GPU"


Backends = Mapping[str, Backend]
_REFERENCE = Backend()
_TRITON = Backend(_triton_unsupported, _skip_interpreter)

MASKED_CONV2D: Backends = {
    "triton": Backend(_triton_unsupported, _skip_unmeasured),
    "cropped": Backend(_cropped_unsupported),
    "reference": _REFERENCE,
}
"""The backends of masked_conv2d and masked_conv2d_gate, the best first."""

GATE: Backends = {"triton": _TRITON, "reference": _REFERENCE}
"""The backends of gate, the best first."""

PIXEL_CROSS_ENTROPY: Backends = {
    "triton": _TRITON,
    "chunked": Backend(),
    "reference": _REFERENCE,
}
"""The backends of pixel_cross_entropy and pixel_cross_entropy_with_logits, the best first."""

LSTM: Backends = {
    "triton": _TRITON,
    "cpu": Backend(_cpu_unsupported),
    "scan": Backend(),
    "reference": _REFERENCE,
}
"""The backends of row_lstm and diagonal_lstm, the best first."""

OPERATORS: Mapping[str, Backends] = {
    "masked_conv2d": MASKED_CONV2D,
    "gate": GATE,
    "pixel_cross_entropy": PIXEL_CROSS_ENTROPY,
    "row_lstm and diagonal_lstm": LSTM,
}
"""All tables of backends, by operator."""


def choose(backend: str, backends: Backends, x: Tensor) -> str:
    """Return the named backend, or for "auto" the first that supports the input and is not skipped.

    Inside the transforms of `torch.func`, "auto" is "reference", because registered operators have
    no rules for transforms.

    Raises:
        ValueError: the name is unknown, or the explicitly named backend cannot run this input.
    """
    if backend not in ("auto", *backends):
        raise ValueError(f"backend must be auto or one of {list(backends)}, got {backend!r}")
    if is_transformed():
        if backend not in ("auto", "reference"):
            raise ValueError(
                f"backend {backend!r} cannot run inside torch.func transforms; "
                "expected auto or reference"
            )
        return "reference"
    if backend != "auto":
        if reason := backends[backend].unsupported_reason(x):
            raise ValueError(f"backend {backend!r} cannot run this: {reason}")
        return backend
    for name, candidate in backends.items():
        reason = candidate.auto_reason(x)
        if reason is None:
            return name
        if not torch.compiler.is_compiling():
            _log.debug("backend %r passed over: %s", name, reason)
            if reason is WHY_NOT_COMPILED:
                warn_of_missing_kernels()
    raise ValueError(f"no backend can run this input of dtype {x.dtype} on {x.device}")
