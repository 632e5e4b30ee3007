"""The operator `diagonal_bilstm`: both directions of the Diagonal BiLSTM by compiled CPU kernels.

It needs no copies to split, pad or concatenate maps, and it does not compute the last row of the
right-to-left direction, which nothing reads. With `keep`, it also returns the hidden states, cell
states and activated gates of each direction for the gradients; without, these tensors are empty.
"""

from typing import Any

import torch
from torch import Tensor

from ..registry import LIBRARY, cast_under_autocast, refuse_second_derivatives
from .schema import CPU
from .states import Kind, States, empty_grad_gates, empty_states

# Inputs: gates [N, 8 h, H, W], and for each direction weight [4 h, h, 2] and initial [2, h].
# Outputs: out [N, h, H, W], and with keep for each direction hidden and cell [N, h, H, W] and
# activations [N, 4 h, H, W]. In the right-to-left direction these have H - 1 rows.
_PARAMETERS = "Tensor weight, Tensor initial, Tensor weight_reverse, Tensor initial_reverse"
_FIVE = "(Tensor, Tensor, Tensor, Tensor, Tensor)"
_SEVEN = "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
_KEPT = "Tensor hidden, Tensor cell, Tensor activations"
_KEPT_REVERSE = "Tensor hidden_reverse, Tensor cell_reverse, Tensor activations_reverse"
LIBRARY.define(f"diagonal_bilstm(Tensor gates, {_PARAMETERS}, bool keep) -> {_SEVEN}")
LIBRARY.define(
    f"diagonal_bilstm_grad(Tensor grad, {_PARAMETERS}, {_KEPT}, {_KEPT_REVERSE}) -> {_FIVE}"
)


def _directions(gates: Tensor) -> tuple[Tensor, Tensor]:
    left, right = gates.chunk(2, 1)
    return left, right[:, :, :-1]


def _kept(states: States, keep: bool) -> tuple[Tensor, ...]:
    return states if keep else (states.hidden.new_empty(0), *states[1:])


@torch.library.impl(LIBRARY, "diagonal_bilstm", "CPU")
def _forward(
    gates: Tensor,
    weight: Tensor,
    initial: Tensor,
    weight_reverse: Tensor,
    initial_reverse: Tensor,
    keep: bool,
) -> tuple[Tensor, ...]:
    a, b = _directions(gates)
    left = CPU.run(Kind(True), a, weight, initial, keep)
    right = CPU.run(Kind(True, True), b, weight_reverse, initial_reverse, keep)
    out = torch.empty_like(left.hidden)
    out[:, :, :1] = left.hidden[:, :, :1]
    torch.add(left.hidden[:, :, 1:], right.hidden, out=out[:, :, 1:])
    return out, *_kept(left, keep), *_kept(right, keep)


@torch.library.impl(LIBRARY, "diagonal_bilstm_grad", "CPU")
def _grad(
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    weight_reverse: Tensor,
    initial_reverse: Tensor,
    *kept: Tensor,
) -> tuple[Tensor, ...]:
    of_gates = empty_grad_gates(kept[0], 2)
    left, right = _directions(of_gates)
    given = grad, weight, initial, States(*kept[:3])
    of_left = CPU.grad(Kind(True), *given, left)
    given = grad[:, :, 1:], weight_reverse, initial_reverse, States(*kept[3:])
    of_right = CPU.grad(Kind(True, True), *given, right)
    of_gates[:, grad.shape[1] * 4 :, -1:] = 0
    return of_gates, *of_left, *of_right


def _forward_fake(gates: Tensor, *given: Any) -> tuple[Tensor, ...]:
    left, right = (empty_states(x, given[-1]) for x in _directions(gates))
    return torch.empty_like(left.hidden), *_kept(left, given[-1]), *_kept(right, given[-1])


def _grad_fake(grad: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
    return empty_grad_gates(given[4], 2), *(x.new_empty(x.shape) for x in given[:4])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, *parameters, ctx.keep = inputs
    ctx.save_for_backward(*parameters, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 6
    if not ctx.keep:
        raise RuntimeError("diagonal_bilstm was called with keep=False, so it has no gradients")
    return *torch.ops.pixelsr.diagonal_bilstm_grad(grad, *ctx.saved_tensors), None


torch.library.register_fake("pixelsr::diagonal_bilstm", _forward_fake, lib=LIBRARY)
torch.library.register_fake("pixelsr::diagonal_bilstm_grad", _grad_fake, lib=LIBRARY)
torch.library.register_autograd(
    "pixelsr::diagonal_bilstm", _backward, setup_context=_keep, lib=LIBRARY
)
refuse_second_derivatives("diagonal_bilstm_grad")
cast_under_autocast("diagonal_bilstm")
