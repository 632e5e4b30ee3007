"""`row_lstm` and `diagonal_lstm`: the recurrences of PixelRNN, one direction, and their gradients.

With `keep`, cell states and activated gates of all cells are returned too, which is what the
gradients are made of; without, both are empty. `row_lstm_cpu` and `diagonal_lstm_cpu` are the same
by the compiled kernels for the CPU, which take all fronts in one call; what they keep is channels
last.
"""

from typing import Any

import torch
from torch import Tensor

from ..scan import (
    Kind,
    Scan,
    diagonals,
    rows,
    scan_backward,
    scan_forward,
)
from .autocast import cast_under_autocast
from .derivatives import refuse_second_derivatives
from .library import LIBRARY
from .lstm_cpu import empty, forward_cpu, grad_cpu, outputs, outputs_cpu

# gates [N, 4 h, H, W], parts o, f, i, g; weight [4 h, h, taps]; initial [2, h], hidden and cell:
# to hidden [N, h, H, W], and with keep cell [N, h, H, W] and activations [N, 4 h, H, W]
_GIVEN = "Tensor gates, Tensor weight, Tensor initial"
_KEPT = "Tensor weight, Tensor initial, Tensor hidden, Tensor cell, Tensor activations"
_THREE = "(Tensor, Tensor, Tensor)"
for _by in ("", "_cpu"):
    LIBRARY.define(f"row_lstm{_by}({_GIVEN}, bool keep=False) -> {_THREE}")
    LIBRARY.define(f"row_lstm{_by}_grad(Tensor grad, {_KEPT}) -> {_THREE}")
    LIBRARY.define(f"diagonal_lstm{_by}({_GIVEN}, bool reverse=False, bool keep=False) -> {_THREE}")
    LIBRARY.define(f"diagonal_lstm{_by}_grad(Tensor grad, {_KEPT}, bool reverse=False) -> {_THREE}")
# In C++ only. All of one dtype, float32 or float64, channels side by side, what is written dense;
# matrix: of all that a cell reads to what it makes of it.
_SCAN = "bool diagonal, bool reverse"
LIBRARY.define(
    "lstm_scan_(Tensor gates, Tensor matrix, Tensor initial, Tensor(a!) hidden, Tensor(b!) cell, "
    f"Tensor(c!) activations, {_SCAN}, int rounding, int threads) -> ()"
)
LIBRARY.define(
    "lstm_scan_grad_(Tensor grad, Tensor matrix, Tensor initial, Tensor cell, Tensor activations, "
    f"Tensor(a!) grad_gates, Tensor(b!) of_initial_cell, {_SCAN}, int threads) -> ()"
)


def _forward(
    scan: Scan, gates: Tensor, weight: Tensor, initial: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    hidden, cell, activations = outputs(gates, keep)
    if hidden.numel():
        kept = (cell, activations) if keep else (None, None)
        scan_forward(scan, gates, weight, initial, hidden, *kept)
    return hidden, cell, activations


def _grad(
    scan: Scan,
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_gates = empty(activations, activations.shape, activations.dtype)
    if not grad.numel():
        return grad_gates, torch.zeros_like(weight), torch.zeros_like(initial)
    of_parameters = scan_backward(
        scan, grad, weight, initial, hidden, cell, activations, grad_gates
    )
    return grad_gates, *of_parameters


def _rows(like: Tensor, weight: Tensor) -> Scan:
    return rows(like.shape[2], like.shape[3], weight.shape[2])


def _diagonals(like: Tensor, reverse: bool) -> Scan:
    return diagonals(like.shape[2], like.shape[3], reverse)


@torch.library.impl(LIBRARY, "row_lstm", "CompositeExplicitAutograd")
def _row_lstm(
    gates: Tensor, weight: Tensor, initial: Tensor, keep: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    return _forward(_rows(gates, weight), gates, weight, initial, keep)


@torch.library.impl(LIBRARY, "row_lstm_grad", "CompositeExplicitAutograd")
def _row_lstm_grad(
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    scan = _rows(grad, weight)
    return _grad(scan, grad, weight, initial, hidden, cell, activations)


@torch.library.impl(LIBRARY, "diagonal_lstm", "CompositeExplicitAutograd")
def _diagonal_lstm(
    gates: Tensor, weight: Tensor, initial: Tensor, reverse: bool = False, keep: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    return _forward(_diagonals(gates, reverse), gates, weight, initial, keep)


@torch.library.impl(LIBRARY, "diagonal_lstm_grad", "CompositeExplicitAutograd")
def _diagonal_lstm_grad(
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    scan = _diagonals(grad, reverse)
    return _grad(scan, grad, weight, initial, hidden, cell, activations)


@torch.library.impl(LIBRARY, "row_lstm_cpu", "CPU")
def _row_lstm_cpu(
    gates: Tensor, weight: Tensor, initial: Tensor, keep: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    return forward_cpu(Kind(), gates, weight, initial, keep)


@torch.library.impl(LIBRARY, "row_lstm_cpu_grad", "CPU")
def _row_lstm_cpu_grad(*given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return grad_cpu(Kind(), *given)


@torch.library.impl(LIBRARY, "diagonal_lstm_cpu", "CPU")
def _diagonal_lstm_cpu(
    gates: Tensor, weight: Tensor, initial: Tensor, reverse: bool = False, keep: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    return forward_cpu(Kind(True, reverse), gates, weight, initial, keep)


@torch.library.impl(LIBRARY, "diagonal_lstm_cpu_grad", "CPU")
def _diagonal_lstm_cpu_grad(
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    kind = Kind(True, reverse)
    return grad_cpu(kind, grad, weight, initial, hidden, cell, activations)


def _row_fake(gates: Tensor, weight: Tensor, initial: Tensor, keep: bool = False) -> Any:
    return outputs(gates, keep)


def _diagonal_fake(
    gates: Tensor, weight: Tensor, initial: Tensor, reverse: bool = False, keep: bool = False
) -> Any:
    return outputs(gates, keep)


def _grad_fake(
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_gates = empty(activations, activations.shape, activations.dtype)
    return grad_gates, weight.new_empty(weight.shape), initial.new_empty(initial.shape)


def _row_cpu_fake(gates: Tensor, weight: Tensor, initial: Tensor, keep: bool = False) -> Any:
    return outputs_cpu(gates, keep)


def _diagonal_cpu_fake(
    gates: Tensor, weight: Tensor, initial: Tensor, reverse: bool = False, keep: bool = False
) -> Any:
    return outputs_cpu(gates, keep)


def _grad_cpu_fake(
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_gates = empty(hidden, activations.shape, activations.dtype)
    return grad_gates, weight.new_empty(weight.shape), initial.new_empty(initial.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, weight, initial, *ctx.reverse, ctx.keep = inputs
    ctx.save_for_backward(weight, initial, *output)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward_by(name: str) -> Any:
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
        options = (None,) * (1 + len(ctx.reverse))
        if grad is None:
            return (None, None, None, *options)
        if not ctx.keep:
            raise RuntimeError(f"{name} was told to keep nothing for gradients")
        operator = getattr(torch.ops.pixelsr, f"{name}_grad")
        return *operator(grad, *ctx.saved_tensors, *ctx.reverse), *options

    return backward


for _name, _forward_fake, _backward_fake in (
    ("row_lstm", _row_fake, _grad_fake),
    ("row_lstm_cpu", _row_cpu_fake, _grad_cpu_fake),
    ("diagonal_lstm", _diagonal_fake, _grad_fake),
    ("diagonal_lstm_cpu", _diagonal_cpu_fake, _grad_cpu_fake),
):
    torch.library.register_fake(f"pixelsr::{_name}", _forward_fake, lib=LIBRARY)
    torch.library.register_fake(f"pixelsr::{_name}_grad", _backward_fake, lib=LIBRARY)
    torch.library.register_autograd(
        f"pixelsr::{_name}", _backward_by(_name), setup_context=_keep, lib=LIBRARY
    )
    refuse_second_derivatives(f"{_name}_grad")
    cast_under_autocast(_name)
