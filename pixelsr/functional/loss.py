"""The cross-entropy of pixels, computed from logits or from the features before the logits."""

import torch
from torch import Tensor

from pixelsr.ops.backends import PIXEL_CROSS_ENTROPY, choose
from pixelsr.ops.cross_entropy.logits_head import LogitsHead, check_logits_head, check_targets
from pixelsr.ops.cross_entropy.reference import (
    nll_ref,
    pixel_cross_entropy_ref,
    pixel_cross_entropy_with_logits_ref,
)

from .autocast import autocast
from .logits import check_same_size


def nll(logits: Tensor, images: Tensor) -> Tensor:
    """Return the negative log-likelihood of each image in nats, ``[N]``.

    Equals ``F.cross_entropy(logits, images.long(), reduction="none").flatten(1).sum(1)``, summed in
    float32 (float64 for float64).

    Args:
        logits: ``[N, L, C, H, W]``.
        images: uint8 ``[N, C, H, W]``.
    Raises:
        ValueError: the shapes or dtypes do not match, or an intensity is L or more.
    """
    _check_logits("nll", logits, images)
    return nll_ref(logits, images)


def _check_logits(function: str, logits: Tensor, images: Tensor) -> None:
    if logits.dim() != 5 or logits.shape[:1] + logits.shape[2:] != images.shape:
        raise ValueError(
            f"{function} takes logits [N, L, C, H, W] and images [N, C, H, W], got "
            f"{list(logits.shape)} and {list(images.shape)}"
        )
    if images.dtype != torch.uint8 or not logits.is_floating_point():
        raise ValueError(f"{function} takes float and uint8, got {logits.dtype} and {images.dtype}")
    check_targets(images, logits.shape[1])


def pixel_cross_entropy(
    prior: LogitsHead,
    images: Tensor,
    conditioning: LogitsHead | None = None,
    *,
    conditioning_scale: float = 1.0,
    backend: str = "auto",
) -> tuple[Tensor, ...]:
    """Compute ``-log softmax(A + B)[y]`` and ``-log softmax(A)[y]`` from features, in nats.

    Equals ``nll(A + B, images)`` and ``nll(A / conditioning_scale, images)``, where
    ``A = to_logits(F.conv2d(*conditioning[:3]), C, L)`` and
    ``B = to_logits(masked_conv2d(*prior[:3], mask_type="B", colors=C), C, L)``. If the prior has a
    hidden layer, B's features are first replaced by
    ``F.relu(masked_conv2d(features, hidden_weight, hidden_bias, mask_type="B", colors=C))``.
    Backends other than "reference" never hold all logits or hidden features in memory: they compute
    them for one chunk of pixels at a time, or inside a kernel, and again in backward. They have no
    second derivatives. This is the loss of Pixel Recursive Super Resolution (1702.00783), section
    3.3.

    Args:
        prior: B. For each color, only its live input channels are multiplied.
        images: uint8 ``[N, C, H, W]``, intensities below L.
        conditioning: A, not masked and without a hidden layer; or None for a loss of B alone.
        conditioning_scale: the divisor of A in the second term.
        backend: "auto", "triton", "chunked" (PyTorch, chunk by chunk) or "reference" (the equation
            above).
    Returns:
        A tuple of ``[N]`` for A + B and ``[N]`` for A, or without `conditioning` only ``[N]`` for
        B. Results and sums are float32 (float64 for float64).
    Raises:
        ValueError: the shapes, dtypes or devices do not match, L is not in 2 .. 256, an intensity
            is L or more, the scale is not positive, or an explicit `backend` cannot run this input.
    """
    prior = LogitsHead(*autocast(*prior))
    if conditioning is not None:
        conditioning = LogitsHead(*autocast(*conditioning))
    _check_pixel_cross_entropy(prior, images, conditioning, conditioning_scale)
    chosen = choose(backend, PIXEL_CROSS_ENTROPY, prior.features)
    if chosen == "reference":
        return pixel_cross_entropy_ref(images, prior, conditioning, conditioning_scale).unbind()
    name = "pixel_cross_entropy" + ("_triton" if chosen == "triton" else "")
    operator = getattr(torch.ops.pixelsr, name)
    alone = (None, None, None) if conditioning is None else conditioning[:3]
    nll, _ = operator(images, *prior, *alone, conditioning_scale)
    return nll.unbind()


def _check_pixel_cross_entropy(
    prior: LogitsHead, images: Tensor, conditioning: LogitsHead | None, scale: float
) -> None:
    if images.dtype != torch.uint8 or images.dim() != 4 or not images.shape[1]:
        raise ValueError(
            f"images must be uint8 [N, C, H, W], got {images.dtype} {list(images.shape)}"
        )
    check_logits_head("prior", prior, images)
    check_targets(images, prior.weight.shape[0] // images.shape[1])
    _check_scale(scale)
    if conditioning is None:
        return
    check_logits_head("conditioning", conditioning, images)
    if conditioning.hidden_weight is not None:
        raise ValueError("the conditioning must not have a hidden layer")
    shapes = [output.weight.shape[0] for output in (prior, conditioning)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"prior and conditioning must have one number of outputs, got {shapes}")
    if prior.features.dtype != conditioning.features.dtype:
        dtypes = [output.features.dtype for output in (prior, conditioning)]
        raise ValueError(f"prior and conditioning must have one dtype, got {dtypes}")


def _check_scale(scale: float) -> None:
    if not 0 < scale < float("inf"):
        raise ValueError(f"conditioning_scale must be positive and finite, got {scale}")


def pixel_cross_entropy_with_logits(
    logits: Tensor,
    images: Tensor,
    conditioning: Tensor | None = None,
    *,
    conditioning_scale: float = 1.0,
    backend: str = "auto",
) -> tuple[Tensor, ...]:
    """Compute ``-log softmax(A + B)[y]`` and ``-log softmax(A)[y]`` from logits, in nats.

    Equals ``nll(conditioning + logits, images)`` and
    ``nll(conditioning / conditioning_scale, images)``. Backends other than "reference" compute the
    loss and its gradients in one pass over the logits, keep the gradients, and scale them in
    backward. They have no second derivatives.

    Args:
        logits: B, ``[N, L, C, H, W]``, any strides.
        images: uint8 ``[N, C, H, W]``, intensities below L.
        conditioning: A, of the same shape as `logits`, or None.
        conditioning_scale: the divisor of A in the second term.
        backend: "auto", "triton", "chunked" (PyTorch, chunk by chunk) or "reference" (the equation
            above).
    Returns:
        A tuple of ``[N]`` for A + B and ``[N]`` for A, or without `conditioning` only ``[N]`` for
        B; float32 (float64 for float64).
    Raises:
        ValueError: the shapes, dtypes or devices do not match, an intensity is L or more, the
            scale is not positive, or an explicit `backend` cannot run this input.
    """
    _check_logits("pixel_cross_entropy_with_logits", logits, images)
    _check_scale(conditioning_scale)
    if conditioning is not None:
        check_same_size(logits, conditioning)
        dtype = torch.promote_types(conditioning.dtype, logits.dtype)
        conditioning, logits = conditioning.to(dtype), logits.to(dtype)
    chosen = choose(backend, PIXEL_CROSS_ENTROPY, logits)
    if chosen == "reference":
        given = (logits, images, conditioning, conditioning_scale)
        return pixel_cross_entropy_with_logits_ref(*given).unbind()
    needs_grad = torch.is_grad_enabled() and (
        logits.requires_grad or (conditioning is not None and conditioning.requires_grad)
    )
    name = "pixel_cross_entropy_with_logits" + ("_triton" if chosen == "triton" else "")
    operator = getattr(torch.ops.pixelsr, name)
    nll, *_ = operator(images, logits, conditioning, conditioning_scale, needs_grad)
    return nll.unbind()
