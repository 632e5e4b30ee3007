"""The backends of each operator and the choice between them.

A predicate returns None if the backend can run an input, otherwise the reason why it cannot.
"""

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

Predicate = Callable[[Tensor], str | None]


def can_run_reference(x: Tensor) -> str | None:
    return None


def can_run_cropped(x: Tensor) -> str | None:
    return None if x.is_floating_point() else f"it takes floating-point input, got {x.dtype}"


def can_run_triton(x: Tensor) -> str | None:
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


def is_not_interpreted(x: Tensor) -> str | None:
    return None if x.device.type == "cuda" else "the interpreter is for tests"


def fastest(operator: str, device: torch.device) -> str | None:
    """Return the fastest backend of an operator on a GPU, or None if it was not measured."""
    return _FASTEST.get(torch.cuda.get_device_name(device), {}).get(operator)


# The effect of `torch.compiler.assume_constant_result`, which would import Dynamo (1.7 s).
fastest._dynamo_marked_constant = True  # type: ignore[attr-defined]


def is_fastest_convolution(x: Tensor) -> str | None:
    """Return None if Triton's convolution was measured to be the fastest, otherwise the reason."""
    if x.device.type != "cuda" or fastest("masked_conv2d", x.device) == "triton":
        return is_not_interpreted(x)
    return "no benchmark shows that it is the fastest on this GPU"


def can_run_cpu(x: Tensor) -> str | None:
    if x.device.type != "cpu":
        return f"its kernels are for the CPU, got {x.device}"
    if x.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        return f"its kernels take float64, float32, float16 or bfloat16, got {x.dtype}"
    return WHY_NOT_COMPILED


class Backend(NamedTuple):
    """A backend of an operator.

    Attributes:
        can_run: returns None, or the reason why the backend cannot run an input.
        is_worth_it: returns None, or the reason why "auto" does not choose the backend.
    """

    can_run: Predicate
    is_worth_it: Predicate = can_run_reference


TRITON = Backend(can_run_triton, is_not_interpreted)
CROPPED = Backend(can_run_cropped)
REFERENCE = Backend(can_run_reference)

MASKED_CONV2D: Mapping[str, Backend] = {
    "triton": Backend(can_run_triton, is_fastest_convolution),
    "cropped": CROPPED,
    "reference": REFERENCE,
}
"""The backends of masked_conv2d and masked_conv2d_gate, the best first."""

GATE: Mapping[str, Backend] = {"triton": TRITON, "reference": REFERENCE}
"""The backends of gate, the best first."""

PIXEL_CROSS_ENTROPY: Mapping[str, Backend] = {
    "triton": TRITON,
    "chunked": Backend(can_run_reference),
    "reference": REFERENCE,
}
"""The backends of pixel_cross_entropy and pixel_cross_entropy_with_logits, the best first."""

LSTM: Mapping[str, Backend] = {
    "triton": TRITON,
    "cpu": Backend(can_run_cpu),
    "scan": Backend(can_run_reference),
    "reference": REFERENCE,
}
"""The backends of row_lstm and diagonal_lstm, the best first."""


def choose(backend: str, backends: Mapping[str, Backend], x: Tensor) -> str:
    """Return the named backend, or for "auto" the first that can run and is worth it.

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
        if why_not := backends[backend].can_run(x):
            raise ValueError(f"backend {backend!r} cannot run this: {why_not}")
        return backend
    for name, candidate in backends.items():
        why_not = candidate.can_run(x) or candidate.is_worth_it(x)
        if why_not is None:
            return name
        if not torch.compiler.is_compiling():
            _log.debug("backend %r passed over: %s", name, why_not)
            if why_not is WHY_NOT_COMPILED:
                warn_of_missing_kernels()
    raise ValueError(f"no backend can run this input of dtype {x.dtype} on {x.device}")
