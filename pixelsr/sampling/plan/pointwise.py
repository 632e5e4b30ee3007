"""The table of pointwise functions, and the evaluation of pointwise expressions.

A function is declared in one row of `POINTWISE`. The planner recognizes it by its traced forms, and
the reference engine runs its eager form. The other engines have a case for its opcode, which is its
position: csrc/common/opcodes.h and kernels/sampling/steps.py list the opcodes in the same order.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ir import Expression


@dataclass(frozen=True)
class PointwiseOp:
    """A pointwise function of one, two or three operands.

    Attributes:
        name: its name in expressions; in capitals, its name in C++ and Triton.
        arity: the number of operands. The last operands may be options of the traced forms.
        eager: the function itself, of tensors and numbers.
        traced: the functions, methods and module classes that compute it in a network's forward.
        options: (name, default) of each option that becomes an operand.
        variant: (name, value) of each option that chooses this function among those with the same
            traced forms; a form without the options is the first of them.
    """

    name: str
    arity: int
    eager: Callable[..., Tensor]
    traced: tuple[Any, ...] = ()
    options: tuple[tuple[str, float], ...] = ()
    variant: tuple[tuple[str, str], ...] = ()


def _gate(a: Tensor, b: Tensor) -> Tensor:
    return torch.tanh(a) * torch.sigmoid(b)


def _clamp(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    return x.clamp(min=low).clamp(max=high)


def _leaky_relu(x: Tensor, slope: Tensor | float) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


# Sorted by arity: the engines tell from an opcode how many operands it takes.
POINTWISE = (
    PointwiseOp("neg", 1, operator.neg, (operator.neg, torch.neg, "neg")),
    PointwiseOp("exp", 1, torch.exp, (torch.exp, "exp")),
    PointwiseOp("abs", 1, torch.abs, (torch.abs, "abs")),
    PointwiseOp("relu", 1, torch.relu, (torch.relu, F.relu, nn.ReLU, "relu")),
    PointwiseOp("tanh", 1, torch.tanh, (torch.tanh, F.tanh, nn.Tanh, "tanh")),
    PointwiseOp("sigmoid", 1, torch.sigmoid, (torch.sigmoid, F.sigmoid, nn.Sigmoid, "sigmoid")),
    PointwiseOp("silu", 1, F.silu, (F.silu, nn.SiLU)),
    PointwiseOp("gelu", 1, F.gelu, (F.gelu, nn.GELU), variant=(("approximate", "none"),)),
    PointwiseOp("gelu_tanh", 1, _gelu_tanh, (F.gelu, nn.GELU), variant=(("approximate", "tanh"),)),
    PointwiseOp("add", 2, operator.add, (operator.add, operator.iadd, torch.add, "add")),
    PointwiseOp("sub", 2, operator.sub, (operator.sub, torch.sub, "sub")),
    PointwiseOp("mul", 2, operator.mul, (operator.mul, torch.mul, "mul")),
    PointwiseOp("div", 2, operator.truediv, (operator.truediv, torch.div, "div")),
    PointwiseOp("pow", 2, torch.pow, (operator.pow, torch.pow, "pow")),
    PointwiseOp("maximum", 2, torch.maximum, (torch.maximum, "maximum")),
    PointwiseOp("minimum", 2, torch.minimum, (torch.minimum, "minimum")),
    PointwiseOp("gate", 2, _gate),  # made by `packing.postfix`
    PointwiseOp("elu", 2, F.elu, (F.elu, nn.ELU), (("alpha", 1.0),)),
    PointwiseOp(
        "leaky_relu",
        2,
        _leaky_relu,
        (F.leaky_relu, nn.LeakyReLU),
        (("negative_slope", 0.01),),
    ),
    PointwiseOp(
        "clamp",
        3,
        _clamp,
        (torch.clamp, "clamp"),
        (("min", -torch.inf), ("max", torch.inf)),
    ),
    PointwiseOp(
        "softplus",
        3,
        F.softplus,
        (F.softplus, nn.Softplus),
        (("beta", 1.0), ("threshold", 20.0)),
    ),
)
BY_NAME = {op.name: op for op in POINTWISE}
BY_FORM = {
    form: tuple(op for op in POINTWISE if form in op.traced)
    for form in dict.fromkeys(form for op in POINTWISE for form in op.traced)
}
"""The functions with each traced form; several if an option chooses among them."""


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
