"""The operators `row_lstm` and `diagonal_lstm`, one direction of a recurrence, and their gradients.

With `keep`, the operators also return the cell states and activated gates of all cells for the
gradients, channels-last; without, both are empty. `backend` is "triton", "cpu" (C++) or "scan"
(PyTorch, any device).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..registry import LIBRARY, cast_under_autocast, refuse_second_derivatives
from .cpu import empty, forward_cpu, grad_cpu, outputs_cpu
from .eager import Kind, States, scan_backward, scan_forward
from .triton import forward_triton, grad_triton

Three = tuple[Tensor, Tensor, Tensor]


def _forward_scan(kind: Kind, gates: Tensor, weight: Tensor, initial: Tensor, keep: bool) -> Three:
    states = States(*outputs_cpu(gates, keep))
    if states.hidden.numel():
        scan_forward(kind, gates, weight, initial, states)
    return states


def _grad_scan(kind: Kind, grad: Tensor, weight: Tensor, initial: Tensor, states: States) -> Three:
    grad_gates = _empty_grad_gates(states)
    if not grad.numel():
        return grad_gates, torch.zeros_like(weight), torch.zeros_like(initial)
    return grad_gates, *scan_backward(kind, grad, weight, initial, states, grad_gates)


def _grad_cpu(kind: Kind, grad: Tensor, weight: Tensor, initial: Tensor, states: States) -> Three:
    return grad_cpu(kind, grad, weight, initial, *states)


def _empty_grad_gates(states: States) -> Tensor:
    """Return an empty gradient in the memory format of the hidden states and the gates."""
    return empty(states.hidden, states.activations.shape, states.hidden.dtype)


class _Kernels(NamedTuple):
    forward: Callable[[Kind, Tensor, Tensor, Tensor, bool], Three]
    grad: Callable[[Kind, Tensor, Tensor, Tensor, States], Three]


_BACKENDS = {
    "triton": _Kernels(forward_triton, grad_triton),
    "cpu": _Kernels(forward_cpu, _grad_cpu),
    "scan": _Kernels(_forward_scan, _grad_scan),
}


def _kernels(backend: str) -> _Kernels:
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be one of {list(_BACKENDS)}, got {backend!r}")
    return _BACKENDS[backend]


def _forward_fake(gates: Tensor, weight: Tensor, initial: Tensor, *options: Any) -> Three:
    return outputs_cpu(gates, keep=options[-2])


def _grad_fake(grad: Tensor, weight: Tensor, initial: Tensor, *given: Any) -> Three:
    grad_gates = _empty_grad_gates(States(*given[:3]))
    return grad_gates, weight.new_empty(weight.shape), initial.new_empty(initial.shape)


def _register(name: str, options: str, kind_of: Callable[..., Kind]) -> None:
    """Register a recurrence and its gradient, `name` and `name`_grad.

    The inputs are gates ``[N, 4 h, H, W]`` in parts o, f, i, g, weight ``[4 h, h, taps]``, and
    initial ``[2, h]``, hidden and cell. The outputs are hidden ``[N, h, H, W]``, and with `keep`
    cell ``[N, h, H, W]`` and activations ``[N, 4 h, H, W]``.

    Args:
        options: the schema of the arguments that are passed to `kind_of`.
    """
    three = "(Tensor, Tensor, Tensor)"
    LIBRARY.define(
        f"{name}(Tensor gates, Tensor weight, Tensor initial, {options}bool keep, str backend)"
        f" -> {three}"
    )
    LIBRARY.define(
        f"{name}_grad(Tensor grad, Tensor weight, Tensor initial, Tensor hidden, Tensor cell, "
        f"Tensor activations, {options}str backend) -> {three}"
    )

    def forward(gates: Tensor, weight: Tensor, initial: Tensor, *options: Any) -> Three:
        *of_kind, keep, backend = options
        return _kernels(backend).forward(kind_of(*of_kind), gates, weight, initial, keep)

    def grad(grad: Tensor, weight: Tensor, initial: Tensor, *given: Any) -> Three:
        *states, of_kind, backend = *given[:3], given[3:-1], given[-1]
        return _kernels(backend).grad(kind_of(*of_kind), grad, weight, initial, States(*states))

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Three) -> None:
        _, weight, initial, *ctx.of_kind, ctx.keep, ctx.backend = inputs
        ctx.save_for_backward(weight, initial, *output)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
        no_options = (None,) * (len(ctx.of_kind) + 2)
        if grad is None:
            return (None, None, None, *no_options)
        if not ctx.keep:
            raise RuntimeError(f"{name} was called with keep=False, so it has no gradients")
        operator = getattr(torch.ops.pixelsr, f"{name}_grad")
        return *operator(grad, *ctx.saved_tensors, *ctx.of_kind, ctx.backend), *no_options

    for operator, kernel, fake in (
        (name, forward, _forward_fake),
        (f"{name}_grad", grad, _grad_fake),
    ):
        LIBRARY.impl(operator, kernel, "CompositeExplicitAutograd")
        torch.library.register_fake(f"pixelsr::{operator}", fake, lib=LIBRARY)
    torch.library.register_autograd(f"pixelsr::{name}", backward, setup_context=keep, lib=LIBRARY)
    refuse_second_derivatives(f"{name}_grad")
    cast_under_autocast(name)


_register("row_lstm", "", Kind)
_register("diagonal_lstm", "bool reverse, ", lambda reverse: Kind(True, reverse))
