"""The table of pointwise functions, and the evaluation of pointwise expressions.

A function is declared in one row of `POINTWISE`. `operations/` says which ATen operations it
computes, and the reference engine runs its eager form. The other engines have a case for its
opcode, which is its position: csrc/common/opcodes.h and kernels/sampling/steps.py list the opcodes
in the same order.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .ir import Expression


@dataclass(frozen=True)
class PointwiseOp:
    """A pointwise function of one, two or three operands.

    Attributes:
        name: its name in expressions; in capitals, its name in C++ and Triton.
        arity: the number of operands.
        eager: the function itself, of tensors and numbers.
    """

    name: str
    arity: int
    eager: Callable[..., Tensor]


def _gate(a: Tensor, b: Tensor) -> Tensor:
    return torch.tanh(a) * torch.sigmoid(b)


def _clamp(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    return x.clamp(min=low).clamp(max=high)


def _leaky_relu(x: Tensor, slope: Tensor | float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _tensors(*operands: Tensor | float) -> list[Tensor]:
    """Return numbers as tensors of the dtype and device of the operands that are tensors."""
    like = next(operand for operand in operands if isinstance(operand, Tensor))
    return [torch.as_tensor(x, dtype=like.dtype, device=like.device) for x in operands]


def _lt(a: Tensor | float, b: Tensor | float) -> Tensor:
    a, b = _tensors(a, b)
    return (a < b).to(a.dtype)


def _le(a: Tensor | float, b: Tensor | float) -> Tensor:
    a, b = _tensors(a, b)
    return (a <= b).to(a.dtype)


def _eq(a: Tensor | float, b: Tensor | float) -> Tensor:
    a, b = _tensors(a, b)
    return (a == b).to(a.dtype)


def _where(condition: Tensor | float, a: Tensor | float, b: Tensor | float) -> Tensor:
    condition, a, b = _tensors(condition, a, b)
    return torch.where(condition != 0, a, b)


# Sorted by arity: the engines tell from an opcode how many operands it takes.
POINTWISE = (
    PointwiseOp("neg", 1, operator.neg),
    PointwiseOp("exp", 1, torch.exp),
    PointwiseOp("abs", 1, torch.abs),
    PointwiseOp("relu", 1, torch.relu),
    PointwiseOp("tanh", 1, torch.tanh),
    PointwiseOp("sigmoid", 1, torch.sigmoid),
    PointwiseOp("silu", 1, F.silu),
    PointwiseOp("gelu", 1, F.gelu),
    PointwiseOp("gelu_tanh", 1, _gelu_tanh),
    PointwiseOp("log", 1, torch.log),
    PointwiseOp("sqrt", 1, torch.sqrt),
    PointwiseOp("square", 1, torch.square),
    PointwiseOp("reciprocal", 1, torch.reciprocal),
    PointwiseOp("add", 2, operator.add),
    PointwiseOp("sub", 2, operator.sub),
    PointwiseOp("mul", 2, operator.mul),
    PointwiseOp("div", 2, operator.truediv),
    PointwiseOp("pow", 2, torch.pow),
    PointwiseOp("maximum", 2, torch.maximum),
    PointwiseOp("minimum", 2, torch.minimum),
    PointwiseOp("gate", 2, _gate),  # made by `packing.postfix`
    PointwiseOp("elu", 2, F.elu),
    PointwiseOp("leaky_relu", 2, _leaky_relu),
    # A comparison is 1 or 0, and 0 for NaN. `where` takes `a` if the condition is not 0.
    PointwiseOp("lt", 2, _lt),
    PointwiseOp("le", 2, _le),
    PointwiseOp("eq", 2, _eq),
    PointwiseOp("clamp", 3, _clamp),
    PointwiseOp("softplus", 3, F.softplus),
    PointwiseOp("where", 3, _where),
)
BY_NAME = {op.name: op for op in POINTWISE}

MAX_STACK, MAX_ARGS = 8, 32
"""The most numbers on the stack of an expression in an engine, and its most arguments."""


def depth(expression: Expression) -> int:
    """Return how many numbers an expression needs on a stack."""
    opcode, *operands = expression
    if opcode in ("arg", "const"):
        return 1
    return max(number + depth(operand) for number, operand in enumerate(operands))


def compile_expression(expression: Expression) -> Callable[[Sequence[Any]], Any]:
    """Return a function of the arguments that evaluates a pointwise expression."""
    name, *operands = expression
    if name == "arg":
        return operator.itemgetter(operands[0])
    if name == "const":
        return lambda args: operands[0]
    function = BY_NAME[name].eager
    parts = [compile_expression(operand) for operand in operands]
    return lambda args: function(*(part(args) for part in parts))
