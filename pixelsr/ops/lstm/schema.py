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
from .cpu import backward_cpu, forward_cpu
from .eager import scan_backward, scan_forward
from .states import Kind, States, empty_grad_gates, empty_states
from .triton import backward_triton, forward_triton

Two = tuple[Tensor, Tensor]
Three = tuple[Tensor, Tensor, Tensor]


class Kernels(NamedTuple):
    """The functions of a backend. Both fill their last argument, of maps that are not empty.

    Attributes:
        forward: fills the states.
        backward: fills the gradient of the gates, and returns the gradients of the weight and of
            the initial state.
    """

    forward: Callable[[Kind, Tensor, Tensor, Tensor, States], None]
    backward: Callable[[Kind, Tensor, Tensor, Tensor, States, Tensor], Two]

    def run(self, kind: Kind, gates: Tensor, weight: Tensor, initial: Tensor, keep: bool) -> States:
        """Return the states."""
        states = empty_states(gates, keep)
        if states.hidden.numel():
            self.forward(kind, gates, weight, initial, states)
        return states

    def grad(
        self,
        kind: Kind,
        grad: Tensor,
        weight: Tensor,
        initial: Tensor,
        states: States,
        grad_gates: Tensor,
    ) -> Two:
        """Fill `grad_gates` and return the gradients of the weight and of the initial state."""
        if not grad.numel():
            return weight.new_zeros(weight.shape), initial.new_zeros(initial.shape)
        return self.backward(kind, grad, weight, initial, states, grad_gates)


CPU = Kernels(forward_cpu, backward_cpu)
_BACKENDS = {
    "triton": Kernels(forward_triton, backward_triton),
    "cpu": CPU,
    "scan": Kernels(scan_forward, scan_backward),
}


def _kernels(backend: str) -> Kernels:
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be one of {list(_BACKENDS)}, got {backend!r}")
    return _BACKENDS[backend]


def _forward_fake(gates: Tensor, weight: Tensor, initial: Tensor, *options: Any) -> Three:
    return empty_states(gates, keep=options[-2])


def _grad_fake(grad: Tensor, weight: Tensor, initial: Tensor, *given: Any) -> Three:
    return (
        empty_grad_gates(given[0]),
        weight.new_empty(weight.shape),
        initial.new_empty(initial.shape),
    )


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
        return _kernels(backend).run(kind_of(*of_kind), gates, weight, initial, keep)

    def grad(grad: Tensor, weight: Tensor, initial: Tensor, *given: Any) -> Three:
        states, of_kind, backend = States(*given[:3]), given[3:-1], given[-1]
        grad_gates = empty_grad_gates(states.hidden)
        kind, kept = kind_of(*of_kind), (states, grad_gates)
        return grad_gates, *_kernels(backend).grad(kind, grad, weight, initial, *kept)

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
