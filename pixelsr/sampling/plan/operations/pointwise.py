"""Pointwise operations: from the arguments of an operation to an expression of them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..builder import Builder
from ..graph import Bounds, Pointwise
from ..ir import Expression
from ..origins import Unstructured
from ..tape import CONSTANT, Ref
from .integers import bounds_of, bounds_of_expression, check_integers
from .moves import origins_tensor

Tree = Any
"""An expression whose leaves are numbers and tensors."""

A, B, C = (("arg", i) for i in range(3))


def _add(x: Any, y: Any, alpha: float = 1) -> Tree:
    return ("add", x, y if alpha == 1 else ("mul", y, alpha))


def _sub(x: Any, y: Any, alpha: float = 1) -> Tree:
    return ("sub", x, y if alpha == 1 else ("mul", y, alpha))


def _elu(x: Any, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tree:
    inner = x if input_scale == 1 else ("mul", x, input_scale)
    # elu(x) = max(x, 0) + alpha * (exp(input_scale * min(x, 0)) - 1)
    tree = ("elu", inner, alpha * input_scale)
    factor = scale / input_scale
    return tree if factor == 1 else ("mul", tree, factor)


def _celu(x: Any, alpha: float = 1) -> Tree:
    return _elu(x, alpha, 1, 1 / alpha)


def _clamp(x: Any, low: Any = None, high: Any = None) -> Tree:
    return ("clamp", x, -math.inf if low is None else low, math.inf if high is None else high)


def _div(x: Any, y: Any, rounding_mode: str | None = None) -> Tree:
    if rounding_mode is not None:
        raise Unstructured(f"rounds the quotient (rounding_mode={rounding_mode!r})")
    return ("div", x, y)


def _gelu(x: Any, approximate: str = "none") -> Tree:
    return ("gelu" if approximate == "none" else "gelu_tanh", x)


def _log_sigmoid(x: Any) -> Tree:
    # min(x, 0) - log(1 + exp(-|x|)), which does not overflow
    return ("sub", ("clamp", x, -math.inf, 0.0), ("softplus", ("neg", ("abs", x)), 1.0, math.inf))


def _addcmul(x: Any, a: Any, b: Any, value: float = 1) -> Tree:
    product = ("mul", a, b)
    return ("add", x, product if value == 1 else ("mul", product, value))


def _addcdiv(x: Any, a: Any, b: Any, value: float = 1) -> Tree:
    quotient = ("div", a, b)
    return ("add", x, quotient if value == 1 else ("mul", quotient, value))


def _lerp(x: Any, end: Any, weight: Any) -> Tree:
    return ("add", x, ("mul", weight, ("sub", end, x)))


def _one(name: str) -> Callable[..., Tree]:
    return lambda x: (name, x)


def _two(name: str) -> Callable[..., Tree]:
    return lambda x, y: (name, x, y)


POINTWISE: dict[str, Callable[..., Tree]] = {
    **{name: _one(name) for name in ("abs", "exp", "log", "neg", "relu", "sigmoid", "silu")},
    **{name: _one(name) for name in ("reciprocal", "sqrt", "tanh")},
    **{name: _two(name) for name in ("maximum", "minimum", "mul", "eq", "le", "lt")},
    "add": _add,
    "addcdiv": _addcdiv,
    "addcmul": _addcmul,
    "celu": _celu,
    "clamp": _clamp,
    "clamp_max": lambda x, high: _clamp(x, high=high),
    "clamp_min": lambda x, low: _clamp(x, low=low),
    "div": _div,
    "elu": _elu,
    "gelu": _gelu,
    "ge": lambda x, y: ("le", y, x),
    "gt": lambda x, y: ("lt", y, x),
    "hardsigmoid": lambda x: ("div", ("clamp", ("add", x, 3.0), 0.0, 6.0), 6.0),
    "hardswish": lambda x: ("div", ("mul", x, ("clamp", ("add", x, 3.0), 0.0, 6.0)), 6.0),
    "hardtanh": lambda x, low=-1, high=1: ("clamp", x, low, high),
    "leaky_relu": lambda x, slope=0.01: ("leaky_relu", x, slope),
    "lerp": _lerp,
    "log1p": lambda x: ("log", ("add", x, 1.0)),
    "log_sigmoid_forward": _log_sigmoid,
    "logical_not": lambda x: ("eq", x, 0.0),
    "bitwise_not": lambda x: ("eq", x, 0.0),
    "logical_and": _two("mul"),
    "bitwise_and": _two("mul"),
    "logical_or": _two("maximum"),
    "bitwise_or": _two("maximum"),
    "mish": lambda x: ("mul", x, ("tanh", ("softplus", x, 1.0, 20.0))),
    "ne": lambda x, y: ("sub", 1.0, ("eq", x, y)),
    "pow": _two("pow"),
    "prelu_kernel": _two("leaky_relu"),
    "rsqrt": lambda x: ("reciprocal", ("sqrt", x)),
    "rsub": lambda x, y, alpha=1: _sub(y, x, alpha),
    "softplus": lambda x, beta=1, threshold=20: ("softplus", x, beta, threshold),
    "sub": _sub,
}
_ON_BITS = ("bitwise_not", "bitwise_and", "bitwise_or", "logical_not", "logical_and", "logical_or")


def pointwise(builder: Builder, tree: Tree) -> None:
    """Make the map of a pointwise expression of tensors and numbers."""
    entry = builder.entry
    if entry.name in _ON_BITS and any(
        ref.dtype != torch.bool for ref in entry.args if isinstance(ref, Ref)
    ):
        raise builder.unsupported("combines integers bit by bit")
    if entry.outs[0].dtype == torch.bool and tree[0] == "add":
        tree = ("maximum", *tree[1:])  # True + True is True
    refs: list[Ref] = []

    def parsed(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            if leaf not in refs:
                refs.append(leaf)
            return ("arg", refs.index(leaf))
        if isinstance(leaf, tuple):
            return (leaf[0], *map(parsed, leaf[1:]))
        return ("const", float(leaf))

    expression = parsed(tree)
    out = entry.outs[0]
    origins = [np.broadcast_to(builder.origins(ref), out.shape) for ref in refs]
    for own in origins:
        builder.check(own)
    layout = builder.layout(*origins)
    args = tuple(builder.operand(layout.canonical(own), pointwise=True) for own in origins)
    bounds: Bounds | None = (0, 1) if out.dtype == torch.bool else None
    if not out.dtype.is_floating_point and bounds is None:
        bounds = bounds_of_expression(expression, [bounds_of(builder, ref) for ref in refs])
        check_integers(builder, bounds, out.dtype)
    builder.result(Pointwise(expression, args), layout, bounds=bounds)


def _where(builder: Builder, condition: Ref, x: Any, y: Any) -> None:
    """Select by a constant condition, which moves elements, or by one that depends on the image."""
    if condition.kind != CONSTANT:
        pointwise(builder, ("where", condition, x, y))
        return
    chosen = builder.value(condition).cpu()
    of_x, of_y = (
        origins_tensor(builder, side)
        if isinstance(side, Ref)
        else torch.tensor(builder.scalar(side), device="cpu")
        for side in (x, y)
    )
    builder.set_result(torch.where(chosen, of_x, of_y).numpy())


def _masked_fill(builder: Builder, x: Ref, mask: Ref, value: Any) -> None:
    _where(builder, mask, value, x)


def _glu(builder: Builder, x: Ref, dim: int = -1) -> None:
    gated(builder, x, dim, ("mul", A, ("sigmoid", B)))


def gated(builder: Builder, x: Ref, dim: int, expression: Expression) -> None:
    """Make the map of an expression of the two halves of a tensor."""
    origins = builder.origins(x)
    builder.check(origins)
    halves = np.split(origins, 2, axis=dim)
    layout = builder.layout(*halves)
    args = tuple(builder.operand(layout.canonical(half), pointwise=True) for half in halves)
    builder.result(Pointwise(expression, args), layout)


SELECTIONS: dict[str, Callable[..., None]] = {
    "glu": _glu,
    "masked_fill": _masked_fill,
    "where": _where,
}
