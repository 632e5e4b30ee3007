"""The operators `masked_conv2d_triton` and `masked_conv2d_gate_triton`, and their gradients."""

from typing import Any

import torch
from torch import Tensor

from ..memory_format import as_convolutions_do, dense, empty_dense, side_by_side
from ..registry import LIBRARY, cast_under_autocast, refuse_second_derivatives, register_triton
from .reference import mask_of
from .schema import LAYER

_FORWARD = f"Tensor x, Tensor weight, Tensor? bias, Tensor? add, {LAYER}"
LIBRARY.define(f"masked_conv2d_triton({_FORWARD}) -> Tensor")
LIBRARY.define(f"masked_conv2d_gate_triton({_FORWARD}) -> (Tensor, Tensor)")
LIBRARY.define(f"masked_conv2d_grad_input_triton(Tensor grad, Tensor weight, {LAYER}) -> Tensor")
LIBRARY.define(
    f"masked_conv2d_grad_weight_triton(Tensor x, Tensor grad, SymInt[] kernel_size, {LAYER})"
    " -> Tensor"
)

_DEFAULTS = (3, 1, 1, 1)


def _layer(weight: Tensor, given: tuple[Any, ...]) -> Any:
    """Return the layer of a weight. The dispatcher omits arguments that equal their defaults."""
    from pixelsr.kernels.masked_conv2d.live_blocks import Layer

    mask_type, colors, in_parts, out_parts, dilation = given + _DEFAULTS[len(given) - 1 :]
    mask = mask_of(weight, mask_type, colors, in_parts, out_parts)
    key = tuple(weight.shape), *given, weight.device
    return Layer(key, mask, dilation)


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, add: Tensor | None, *layer: Any
) -> Tensor:
    return _convolve(x, weight, bias, add, layer, None)


def _conv_gate(
    x: Tensor, weight: Tensor, bias: Tensor | None, add: Tensor | None, *layer: Any
) -> tuple[Tensor, Tensor]:
    gated = empty_dense(x, weight.shape[0] // 2)
    out = _convolve(x, weight, bias, add, layer, gated)
    return as_convolutions_do(gated, x, weight), out


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    add: Tensor | None,
    layer: tuple[Any, ...],
    gated: Tensor | None,
) -> Tensor:
    """Return the convolution, and fill `gated` with its gate."""
    from pixelsr.kernels.masked_conv2d.convolution import launch_masked_conv2d

    out = empty_dense(x, weight.shape[0])
    if out.numel():
        add = None if add is None else dense(add)
        launch_masked_conv2d(side_by_side(x), weight, bias, add, out, gated, _layer(weight, layer))
    return as_convolutions_do(out, x, weight)


def _grad_input(grad: Tensor, weight: Tensor, *layer: Any) -> Tensor:
    from pixelsr.kernels.masked_conv2d.convolution import launch_grad_input

    out = empty_dense(grad, weight.shape[1])
    if out.numel():
        launch_grad_input(side_by_side(grad), weight, out, _layer(weight, layer))
    return as_convolutions_do(out, grad, weight)


def _grad_weight(x: Tensor, grad: Tensor, kernel_size: list[int], *layer: Any) -> Tensor:
    from pixelsr.kernels.masked_conv2d.convolution import launch_grad_weight

    out = x.new_empty((grad.shape[1], x.shape[1], *kernel_size))
    launch_grad_weight(side_by_side(x), dense(grad), out, _layer(out, layer))
    return out


register_triton("masked_conv2d_triton", _conv)
register_triton("masked_conv2d_gate_triton", _conv_gate)
register_triton("masked_conv2d_grad_input_triton", _grad_input)
register_triton("masked_conv2d_grad_weight_triton", _grad_weight)


@torch.library.register_fake("pixelsr::masked_conv2d_triton", lib=LIBRARY)
def _conv_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, add: Tensor | None, *layer: Any
) -> Tensor:
    return as_convolutions_do(empty_dense(x, weight.shape[0]), x, weight)


@torch.library.register_fake("pixelsr::masked_conv2d_gate_triton", lib=LIBRARY)
def _conv_gate_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, add: Tensor | None, *layer: Any
) -> tuple[Tensor, Tensor]:
    gated, out = (empty_dense(x, n) for n in (weight.shape[0] // 2, weight.shape[0]))
    return as_convolutions_do(gated, x, weight), as_convolutions_do(out, x, weight)


@torch.library.register_fake("pixelsr::masked_conv2d_grad_input_triton", lib=LIBRARY)
def _grad_input_fake(grad: Tensor, weight: Tensor, *layer: Any) -> Tensor:
    return as_convolutions_do(empty_dense(grad, weight.shape[1]), grad, weight)


@torch.library.register_fake("pixelsr::masked_conv2d_grad_weight_triton", lib=LIBRARY)
def _grad_weight_fake(x: Tensor, grad: Tensor, kernel_size: list[int], *layer: Any) -> Tensor:
    return x.new_empty((grad.shape[1], x.shape[1], *kernel_size))


# Gradients.


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, _, _, *layer = inputs
    ctx.layer = layer
    ctx.set_materialize_grads(False)
    before_the_gate = output[1:] if isinstance(output, tuple) else ()
    ctx.save_for_backward(x, weight, *before_the_gate)


def _gradients(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
    """Return the gradients of x, weight, bias and add, and None for each layer argument."""
    nothing = (None,) * len(ctx.layer)
    if grad is None:
        return (None, None, None, None, *nothing)
    x, weight, *_ = ctx.saved_tensors
    to_x, to_weight, to_bias, to_add = ctx.needs_input_grad[:4]
    ours = torch.ops.pixelsr
    return (
        ours.masked_conv2d_grad_input_triton(grad, weight, *ctx.layer) if to_x else None,
        ours.masked_conv2d_grad_weight_triton(x, grad, weight.shape[2:], *ctx.layer)
        if to_weight
        else None,
        grad.sum((0, 2, 3)) if to_bias else None,
        grad if to_add else None,
        *nothing,
    )


def _backward_of_gate(ctx: Any, gated_grad: Tensor | None, grad: Tensor | None) -> tuple[Any, ...]:
    if gated_grad is not None:
        before_the_gate = ctx.saved_tensors[2]
        grad = torch.ops.pixelsr.gate_grad_triton(before_the_gate, gated_grad, grad)
    return _gradients(ctx, grad)


for _name, _backward in (
    ("masked_conv2d_triton", _gradients),
    ("masked_conv2d_gate_triton", _backward_of_gate),
):
    torch.library.register_autograd(
        f"pixelsr::{_name}", _backward, setup_context=_keep, lib=LIBRARY
    )
    cast_under_autocast(_name)
for _name in ("masked_conv2d_grad_input_triton", "masked_conv2d_grad_weight_triton"):
    refuse_second_derivatives(_name)
