"""The operators `pixel_cross_entropy` and `pixel_cross_entropy_with_logits`, and their gradients.

Each has a PyTorch and a Triton form. The tensors of a `LogitsHead` are passed one by one: five for
the prior, and three for the conditioning network, which has no hidden layer. The terms are A + B
and, if there is A, A / scale.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..dtypes import accumulator
from ..registry import (
    LIBRARY,
    cast_under_autocast,
    interprets,
    refuse_second_derivatives,
    register_triton,
)
from .fused_linear import (
    PYTORCH,
    Chunk,
    Kernels,
    backward_chunked,
    forward_chunked,
    with_logits_chunked,
)
from .logits_head import LogitsHead

PRIOR, TENSORS = 5, 8
"""The number of tensors of the prior's head, and of both heads."""
_OUTPUTS = (
    "Tensor features, Tensor weight, Tensor? bias, Tensor? hidden_weight, Tensor? hidden_bias,"
    " Tensor? conditioning, Tensor? conditioning_weight, Tensor? conditioning_bias,"
    " float scale"
)
_SCHEMAS = {
    # nll [T, N], and log_sums [T, N, H, W, C] for the gradient
    "pixel_cross_entropy": f"(Tensor images, {_OUTPUTS}) -> (Tensor, Tensor)",
    # the gradient of each tensor, empty if it is not needed
    "pixel_cross_entropy_grad": (
        f"(Tensor grad, Tensor log_sums, Tensor images, {_OUTPUTS}, bool[] needs) -> "
        f"({', '.join(['Tensor'] * TENSORS)})"
    ),
    # nll [T, N], and its gradient with respect to the logits of each term, if it is needed
    "pixel_cross_entropy_with_logits": (
        "(Tensor images, Tensor logits, Tensor? conditioning, float scale, bool needs_grad)"
        " -> (Tensor, Tensor, Tensor)"
    ),
}
for _name, _schema in _SCHEMAS.items():
    LIBRARY.define(_name + _schema)
    LIBRARY.define(f"{_name}_triton{_schema}")
LIBRARY.define(
    "pixel_cross_entropy_with_logits_grad(Tensor grad, Tensor of_total, Tensor of_alone)"
    " -> (Tensor, Tensor)"
)


def _outputs(tensors: tuple[Any, ...]) -> tuple[LogitsHead, LogitsHead | None]:
    conditioning = tensors[PRIOR:TENSORS]
    return LogitsHead(*tensors[:PRIOR]), None if conditioning[0] is None else LogitsHead(
        *conditioning
    )


def _forward_by(kernels: Kernels) -> Callable[..., tuple[Tensor, Tensor]]:
    def run(images: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
        return forward_chunked(images, *_outputs(given), given[TENSORS], kernels)

    return run


def _grad_by(kernels: Kernels) -> Callable[..., tuple[Tensor, ...]]:
    def run(grad: Tensor, log_sums: Tensor, images: Tensor, *given: Any) -> tuple[Tensor, ...]:
        *tensors, scale, needs = given
        of_both = needs[:PRIOR], [*needs[PRIOR:], False, False]  # A has no hidden layer
        outputs = _outputs(tuple(tensors))
        grads = backward_chunked(grad, log_sums, images, *outputs, scale, of_both, kernels)
        grads = [*grads, None, None, None][:TENSORS]
        return tuple(grad.new_empty(0) if some is None else some for some in grads)

    return run


def _with_logits_by(fill: Callable[..., None]) -> Callable[..., tuple[Tensor, ...]]:
    def run(
        images: Tensor, logits: Tensor, conditioning: Tensor | None, scale: float, needs_grad: bool
    ) -> tuple[Tensor, ...]:
        given = [logits] if conditioning is None else [logits, conditioning]
        n, colors, height, width = images.shape
        shape = (len(given), n, height, width, colors)
        nll = logits.new_empty(shape, dtype=accumulator(logits.dtype))
        grads = [torch.empty_like(some) for some in given] if needs_grad else []
        if nll.numel():
            fill(nll, grads, images, logits, conditioning, scale)
        nothing = [logits.new_empty(0) for _ in range(2 - len(grads))]
        return nll.flatten(2).sum(2), *grads, *nothing

    return run


def _scale(grad: Tensor, of_total: Tensor, of_alone: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the gradients of B's and A's logits by the gradient of the nll, ``[T, N]``."""
    each = grad.view(*grad.shape, 1, 1, 1, 1)
    to_prior = torch.mul(of_total, each[0], out=torch.empty_like(of_total))
    if not of_alone.numel():
        return to_prior, torch.empty_like(of_alone)
    to_alone = torch.mul(of_alone, each[1], out=torch.empty_like(of_alone))
    return to_prior, to_alone.add_(to_prior)


# The Triton kernels, which are imported when they are called.


def _forward_triton(nll: Tensor, log_sums: Tensor, chunk: Chunk) -> None:
    from pixelsr.kernels.cross_entropy.from_features import launch_pixel_cross_entropy

    launch_pixel_cross_entropy(nll, log_sums, *chunk)


def _backward_triton(grad: Tensor, log_sums: Tensor, chunk: Chunk) -> list[Tensor]:
    from pixelsr.kernels.cross_entropy.from_features import launch_pixel_cross_entropy_grad

    x, weight, _ = chunk.prior
    of_logits = [x.new_empty(len(x), len(weight)) for _ in grad]
    with _filled(of_logits) as buffers:
        launch_pixel_cross_entropy_grad(buffers, grad, log_sums, *chunk)
    return of_logits


def _with_logits_triton(nll: Tensor, grads: list[Tensor], *given: Any) -> None:
    from pixelsr.kernels.cross_entropy.from_logits import launch_pixel_cross_entropy_with_logits

    with _filled(grads) as buffers:
        launch_pixel_cross_entropy_with_logits(nll, buffers, *given)


@contextlib.contextmanager
def _filled(outputs: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the tensors that a kernel writes: float32 copies for bfloat16 in the interpreter.

    The interpreter rounds to bfloat16 towards zero, so the result is rounded here.
    """
    if not (interprets() and outputs and outputs[0].dtype == torch.bfloat16):
        yield outputs
        return
    yield (buffers := [output.float() for output in outputs])
    for output, buffer in zip(outputs, buffers, strict=True):
        output.copy_(buffer)


# Fakes.


def _forward_fake_by(kernels: Kernels) -> Callable[..., tuple[Tensor, Tensor]]:
    def fake(images: Tensor, features: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
        n, colors, height, width = images.shape
        terms = 1 if given[PRIOR - 1] is None else 2
        nll = features.new_empty((terms, n), dtype=accumulator(features.dtype))
        shape = (terms, n, height, width, colors) if kernels.wants_log_sums else (0,)
        return nll, nll.new_empty(shape)

    return fake


def _grad_fake(grad: Tensor, log_sums: Tensor, images: Tensor, *given: Any) -> tuple[Tensor, ...]:
    *tensors, _, needs = given
    return tuple(
        _gradient_like(tensor, place) if needed else grad.new_empty(0)
        for place, (tensor, needed) in enumerate(zip(tensors, needs, strict=True))
    )


def _gradient_like(tensor: Tensor, place: int) -> Tensor:
    """Return an empty gradient, in the memory format of the tensor if it is a head's features."""
    return torch.empty_like(tensor) if place in (0, PRIOR) else tensor.new_empty(tensor.shape)


def _with_logits_fake(
    images: Tensor, logits: Tensor, conditioning: Tensor | None, scale: float, needs_grad: bool
) -> tuple[Tensor, ...]:
    given = [logits] if conditioning is None else [logits, conditioning]
    nll = logits.new_empty((len(given), images.shape[0]), dtype=accumulator(logits.dtype))
    grads = [torch.empty_like(some) for some in given] if needs_grad else []
    return nll, *grads, *(logits.new_empty(0) for _ in range(2 - len(grads)))


def _scale_fake(grad: Tensor, of_total: Tensor, of_alone: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(of_total), torch.empty_like(of_alone)


# Gradients.


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[: 1 + TENSORS], output[1])
    ctx.scale = inputs[1 + TENSORS]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward_by(name: str) -> Callable[..., tuple[Any, ...]]:
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Any, ...]:
        if grad is None:
            return (None,) * (2 + TENSORS)
        images, *tensors, log_sums = ctx.saved_tensors
        needs = ctx.needs_input_grad[1 : 1 + TENSORS]
        operator = getattr(torch.ops.pixelsr, name)
        grads = operator(grad.contiguous(), log_sums, images, *tensors, ctx.scale, needs)
        return (None, *(g if n else None for g, n in zip(grads, needs, strict=True)), None)

    return backward


def _keep_with_logits(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.needs_grad = inputs[-1]


def _backward_with_logits(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 5
    if not ctx.needs_grad:
        raise RuntimeError(
            "pixel_cross_entropy_with_logits was called with needs_grad=False, so it has no "
            "gradients"
        )
    operator = torch.ops.pixelsr.pixel_cross_entropy_with_logits_grad
    to_prior, to_alone = operator(grad.contiguous(), *ctx.saved_tensors)
    has_alone = len(grad) == 2
    return None, to_prior, to_alone if has_alone else None, None, None


# The registration of both forms.


def _register(end: str, kernels: Kernels, fill_with_logits: Callable[..., None]) -> None:
    """Register the operators of a form, whose names have this end."""
    loss, grad = f"pixel_cross_entropy{end}", f"pixel_cross_entropy_grad{end}"
    with_logits = f"pixel_cross_entropy_with_logits{end}"
    for name, run, fake in (
        (loss, _forward_by(kernels), _forward_fake_by(kernels)),
        (grad, _grad_by(kernels), _grad_fake),
        (with_logits, _with_logits_by(fill_with_logits), _with_logits_fake),
    ):
        if kernels is PYTORCH:
            LIBRARY.impl(name, run, "CompositeExplicitAutograd")
        else:
            register_triton(name, run)
        torch.library.register_fake(f"pixelsr::{name}", fake, lib=LIBRARY)
    for name, backward, keep in (
        (loss, _backward_by(grad), _keep),
        (with_logits, _backward_with_logits, _keep_with_logits),
    ):
        torch.library.register_autograd(
            f"pixelsr::{name}", backward, setup_context=keep, lib=LIBRARY
        )
    refuse_second_derivatives(grad)
    cast_under_autocast(loss)


_register("", PYTORCH, with_logits_chunked)
_register(
    "_triton", Kernels(_forward_triton, _backward_triton, wants_log_sums=True), _with_logits_triton
)
_SCALE = "pixel_cross_entropy_with_logits_grad"
LIBRARY.impl(_SCALE, _scale, "CompositeExplicitAutograd")
torch.library.register_fake(f"pixelsr::{_SCALE}", _scale_fake, lib=LIBRARY)
refuse_second_derivatives(_SCALE)
