"""The operator `gate_triton` and its gradient."""

from typing import Any

import torch
from torch import Tensor

from ..memory_format import as_convolutions_do, dense, empty_dense
from ..registry import LIBRARY, cast_under_autocast, refuse_second_derivatives, register_triton

LIBRARY.define("gate_triton(Tensor x) -> Tensor")
LIBRARY.define("gate_grad_triton(Tensor x, Tensor grad, Tensor? add) -> Tensor")


def _gate(x: Tensor) -> Tensor:
    from pixelsr.kernels.gate import launch_gate

    out = empty_dense(x, x.shape[1] // 2)
    if out.numel():
        launch_gate(dense(x), out)
    return as_convolutions_do(out, x, x)


def _gate_grad(x: Tensor, grad: Tensor, add: Tensor | None) -> Tensor:
    from pixelsr.kernels.gate import launch_gate_grad

    out = empty_dense(x, x.shape[1])
    if out.numel():
        launch_gate_grad(dense(x), dense(grad), None if add is None else dense(add), out)
    return as_convolutions_do(out, x, x)


register_triton("gate_triton", _gate)
register_triton("gate_grad_triton", _gate_grad)


@torch.library.register_fake("pixelsr::gate_triton", lib=LIBRARY)
def _gate_fake(x: Tensor) -> Tensor:
    return as_convolutions_do(empty_dense(x, x.shape[1] // 2), x, x)


@torch.library.register_fake("pixelsr::gate_grad_triton", lib=LIBRARY)
def _gate_grad_fake(x: Tensor, grad: Tensor, add: Tensor | None) -> Tensor:
    return as_convolutions_do(empty_dense(x, x.shape[1]), x, x)


def _keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    return torch.ops.pixelsr.gate_grad_triton(x, grad, None)


torch.library.register_autograd("pixelsr::gate_triton", _backward, setup_context=_keep, lib=LIBRARY)
refuse_second_derivatives("gate_grad_triton")
cast_under_autocast("gate_triton")
