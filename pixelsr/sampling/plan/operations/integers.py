"""Bounds of integers: every result must be exact in the features' float32."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..builder import Builder
from ..graph import Bounds
from ..ir import Expression
from ..origins import ZERO, parts
from ..tape import CONDITION, CONSTANT, Ref

_EXACT = 2**24  # float32 holds all integers up to here


def bounds_of(builder: Builder, ref: Ref) -> Bounds:
    """Return the least and greatest value of a tensor of integers."""
    if ref.kind == CONSTANT:
        value = builder.value(ref).double()
        return float(value.min()), float(value.max())
    if ref.kind == CONDITION:
        raise builder.unsupported("computes with integers of low_res; expected floating point")
    origins = builder.origins(ref)
    found: list[Bounds] = [(0.0, 0.0)] if (origins == ZERO).any() else []
    for number in np.unique(parts(origins[origins >= 0])[0]).tolist():
        own = builder.graph.maps[number].bounds
        if own is None:
            raise builder.unsupported("computes with integers of unknown size")
        found.append(own)
    if (origins < ZERO).any():
        raise builder.unsupported("computes with integers of unknown size")
    return min(low for low, _ in found), max(high for _, high in found)


def bounds_of_expression(expression: Expression, bounds: Sequence[Bounds]) -> Bounds | None:
    """Return the bounds of an expression from those of its arguments; None if they are unknown."""
    name, *operands = expression
    if name == "arg":
        return bounds[operands[0]]
    if name == "const":
        return operands[0], operands[0]
    if name in ("lt", "le", "eq"):
        return 0, 1
    found = [bounds_of_expression(operand, bounds) for operand in operands]
    known = [each for each in found if each is not None]
    if name not in _INTEGER or len(known) < len(found):
        return None
    ends = [_INTEGER[name](*each) for each in itertools.product(*known)]
    if name == "abs":
        ends.append(0)
    return min(ends), max(ends)


_INTEGER: dict[str, Callable[..., float]] = {
    "abs": abs,
    "add": lambda a, b: a + b,
    "clamp": lambda x, low, high: min(max(x, low), high),
    "maximum": max,
    "minimum": min,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "relu": lambda a: max(a, 0),
    "sub": lambda a, b: a - b,
}


def check_integers(builder: Builder, bounds: Bounds | None, dtype: torch.dtype) -> None:
    """Check that integers neither wrap around in their dtype nor exceed what float32 holds."""
    if dtype == torch.bool:
        return
    if bounds is None:
        raise builder.unsupported(f"computes {dtype} in a way that the planner does not follow")
    limits = torch.iinfo(dtype)
    low, high = max(limits.min, -_EXACT), min(limits.max, _EXACT)
    if not low <= bounds[0] <= bounds[1] <= high:
        raise builder.unsupported(
            f"computes {dtype} from {bounds[0]:g} to {bounds[1]:g}, which would wrap around; "
            "convert the images to floating point first"
        )
