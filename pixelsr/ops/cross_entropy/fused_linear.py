"""The pixel cross-entropy fused with the output layers, one chunk of pixels at a time.

The logits of a whole batch never exist in memory. One of two pairs of functions (`Kernels`)
processes a chunk: PyTorch's, defined here, or the Triton kernels of
`kernels/cross_entropy/from_features.py`. Sums over chunks are float32 (float64 for float64).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pixelsr.masks import group_sizes

from ..dtypes import accumulator
from .logits_head import LogitsHead

Where = tuple[slice, slice]
"""A chunk of pixels, as a range of images and a range of their rows."""

CPU_CHUNK, GPU_CHUNK = 1024, 8192
"""The number of pixels of a chunk: few enough for the caches of a CPU, enough to fill a GPU."""


class Layer(NamedTuple):
    """A 1x1 convolution as a matrix product of P pixels.

    Attributes:
        x: ``[P, K]``, the features.
        weight: ``[out, K]``.
        bias: ``[out]`` or None.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None


class Chunk(NamedTuple):
    """A chunk of P pixels.

    Attributes:
        targets: uint8 ``[P, C]``.
        prior: the output layer of B, after its hidden layer.
        conditioning: the output layer of A; None if there is no A.
        scale: the divisor of A's logits in the term of A alone.
    """

    targets: Tensor
    prior: Layer
    conditioning: Layer | None
    scale: float


class Kernels(NamedTuple):
    """The functions for a chunk of P pixels and T terms (A + B, and A alone if there is A).

    Attributes:
        forward: ``(nll, log_sums, chunk)`` fills `nll` and `log_sums` ``[T, P, C]`` with the nll of
            each value and the log of its sum of exponentials.
        backward: ``(grad, log_sums, chunk)`` takes the gradient of the nll, ``[T, P]``, and returns
            the gradients of B's logits and, if there is A, of A's logits, ``[P, C * L]`` each.
        wants_log_sums: True if `backward` reads `log_sums`; otherwise they are empty.
    """

    forward: Callable[[Tensor, Tensor, Chunk], None]
    backward: Callable[[Tensor, Tensor, Chunk], list[Tensor]]
    wants_log_sums: bool


def forward_chunked(
    images: Tensor,
    prior: LogitsHead,
    conditioning: LogitsHead | None,
    scale: float,
    kernels: Kernels,
) -> tuple[Tensor, Tensor]:
    """Return the nll of the images, ``[T, N]``, and the log_sums, ``[T, N, H, W, C]`` or empty."""
    n, colors, height, width = images.shape
    shape = (1 if conditioning is None else 2, n, height, width, colors)
    nll = prior.features.new_empty(shape, dtype=accumulator(prior.features.dtype))
    log_sums = torch.empty_like(nll) if kernels.wants_log_sums else nll.new_empty(0)
    for where in chunks(images):
        chunk = _chunk(images, prior, conditioning, scale, where)
        kernels.forward(_of_terms(nll, where), _of_terms(log_sums, where), chunk)
    return nll.flatten(2).sum(2), log_sums


def backward_chunked(
    grad: Tensor,
    log_sums: Tensor,
    images: Tensor,
    prior: LogitsHead,
    conditioning: LogitsHead | None,
    scale: float,
    needs: Sequence[Sequence[bool]],
    kernels: Kernels,
) -> list[Tensor | None]:
    """Return the gradients of the tensors of `prior`, and then of `conditioning` if there is one.

    The gradient of the logits exists for one chunk at a time; PyTorch's matrix products compute the
    other gradients from it.

    Args:
        grad: the gradient of the nll, ``[T, N]``.
        needs: for each tensor of each head, whether its gradient is needed; if not, it is None.
    """
    colors = images.shape[1]
    parts = [_Gradients(prior, needs[0], colors)]
    if conditioning is not None:
        parts.append(_Gradients(conditioning, needs[1], 1))
    for where in chunks(images):
        chunk = _chunk(images, prior, conditioning, scale, where)
        pixels = len(chunk.targets) // grad[0, where[0]].numel()
        each = grad[:, where[0]].repeat_interleave(pixels, 1)
        of_logits = kernels.backward(each, _of_terms(log_sums, where), chunk)
        layers = chunk.prior, chunk.conditioning
        for part, of_some, layer in zip(parts, of_logits, layers, strict=False):
            if layer is not None:
                part.add(of_some, layer.x, where)
    return [tensor for part in parts for tensor in part.result()]


class _Gradients:
    """The gradients of the tensors of a logits head, summed over chunks; None if not needed."""

    def __init__(self, output: LogitsHead, needs: Sequence[bool], colors: int) -> None:
        self.output, self.colors = output, colors
        needed = [
            tensor if needs_it else None for tensor, needs_it in zip(output, needs, strict=True)
        ]
        self.features = None if needed[0] is None else torch.empty_like(needed[0])
        self.weight, self.bias, self.hidden_weight, self.hidden_bias = map(_zeros, needed[1:])

    def add(self, grad: Tensor, x: Tensor, where: Where) -> None:
        """Add a chunk, with the gradient of the logits and the input `x` of the output layer."""
        output, features = self.output, self.features
        hidden, further = output.hidden_weight, (self.hidden_weight, self.hidden_bias, features)
        wants = any(tensor is not None for tensor in further)
        into = (self.weight, self.bias, self.colors)
        grad_x = _backward_product(grad, x, output.weight, *into, wants)
        if hidden is not None and grad_x is not None:
            grad_x.masked_fill_(x <= 0, 0)  # the gradient of the ReLU
            into = (self.hidden_weight, self.hidden_bias, self.colors)
            x = rows(output.features, where)
            grad_x = _backward_product(grad_x, x, hidden, *into, features is not None)
        if features is not None and grad_x is not None:
            part = features[where[0], :, where[1]].permute(0, 2, 3, 1)
            part.copy_(grad_x.view(part.shape))

    def result(self) -> list[Tensor | None]:
        sums = (self.weight, self.bias, self.hidden_weight, self.hidden_bias)
        dtype = self.output.features.dtype
        return [self.features, *(None if some is None else some.to(dtype) for some in sums)]


def _zeros(tensor: Tensor | None) -> Tensor | None:
    """Return zeros to sum a gradient in."""
    return (
        None if tensor is None else tensor.new_zeros(tensor.shape, dtype=accumulator(tensor.dtype))
    )


def chunks(images: Tensor) -> Iterator[Where]:
    """Yield all pixels of the images in chunks of whole images, or of rows of one image."""
    n, _, height, width = images.shape
    if images.numel() == 0:
        return
    size = CPU_CHUNK if images.device.type == "cpu" else GPU_CHUNK
    at_once, lines = max(1, size // (height * width)), max(1, size // width)
    for first in range(0, n, at_once):
        for top in range(0, height, lines):
            yield slice(first, first + at_once), slice(top, top + lines)


def rows(x: Tensor, where: Where) -> Tensor:
    """Return a chunk of ``[N, K, H, W]`` as ``[P, K]``.

    This is a view if `x` is channels-last, or contiguous with a chunk of one image.
    """
    return x[where[0], :, where[1]].permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _of_terms(buffer: Tensor, where: Where) -> Tensor:
    """View a chunk of ``[T, N, H, W, C]`` as ``[T, P, C]``."""
    return buffer[:, where[0], where[1]].flatten(1, 3) if buffer.numel() else buffer


def _chunk(
    images: Tensor,
    prior: LogitsHead,
    conditioning: LogitsHead | None,
    scale: float,
    where: Where,
) -> Chunk:
    """Return a chunk, after computing the prior's hidden layer."""
    targets, x = rows(images, where), rows(prior.features, where)
    if prior.hidden_weight is not None:
        hidden = Layer(x, prior.hidden_weight[:, :, 0, 0], prior.hidden_bias)
        x = masked_product(hidden, images.shape[1]).relu_()
    layer = Layer(x, prior.weight[:, :, 0, 0], prior.bias)
    if conditioning is None:
        return Chunk(targets, layer, None, scale)
    a = rows(conditioning.features, where)
    alone = Layer(a, conditioning.weight[:, :, 0, 0], conditioning.bias)
    return Chunk(targets, layer, alone, scale)


def _groups(out_channels: int, in_channels: int, colors: int) -> Iterator[tuple[slice, slice]]:
    """Yield the output channels and the input channels of each color."""
    out = inputs = 0
    sizes = group_sizes(out_channels, colors), group_sizes(in_channels, colors)
    for more_out, more_in in zip(*sizes, strict=True):
        yield slice(out, out + more_out), slice(inputs, inputs + more_in)
        out, inputs = out + more_out, inputs + more_in


def masked_product(layer: Layer, colors: int) -> Tensor:
    """Return ``x @ (weight * mask).T + bias`` with mask B, ``[P, out]``.

    Only the live inputs of each color are multiplied.
    """
    x, weight, bias = layer
    out = x.new_empty(len(x), len(weight))
    for own, group in _groups(len(weight), x.shape[1], colors):
        live = slice(0, group.stop)
        inputs, kernel = x[:, live], weight[own, live].t()
        if bias is None:
            torch.mm(inputs, kernel, out=out[:, own])
        else:
            torch.addmm(bias[own], inputs, kernel, out=out[:, own])
    return out


def _backward_product(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    grad_weight: Tensor | None,
    grad_bias: Tensor | None,
    colors: int,
    wants_x: bool,
) -> Tensor | None:
    """Add to the gradients of `masked_product`'s weight and bias; return the gradient of x."""
    if grad_bias is not None:
        grad_bias += grad.sum(0, dtype=grad_bias.dtype)
    grad_x = x.new_empty(x.shape) if wants_x else None
    for own, group in _groups(len(weight), x.shape[1], colors):
        readers = slice(own.start, None)  # a group's own color and later colors read it
        if grad_weight is not None:
            _add_product(grad_weight[readers, group, 0, 0], grad[:, readers].t(), x[:, group])
        if grad_x is not None:
            torch.mm(grad[:, readers], weight[readers, group, 0, 0], out=grad_x[:, group])
    return grad_x


def _add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    if out.dtype == a.dtype:
        out.addmm_(a, b)
    else:
        out += a @ b


def _logits(chunk: Chunk) -> list[Tensor]:
    """Return the logits A + B and, if there is A, A / scale, ``[P, C, L]`` each."""
    targets, prior, conditioning, scale = chunk
    colors = targets.shape[1]
    shape = (len(prior.x), colors, -1)
    dtype = accumulator(prior.x.dtype)
    total = masked_product(prior, colors).to(dtype).view(shape)
    if conditioning is None:
        return [total]
    alone = masked_product(conditioning, 1).to(dtype).view(shape)
    return [total.add_(alone), alone if scale == 1 else alone.div_(scale)]


def _forward(nll: Tensor, log_sums: Tensor, chunk: Chunk) -> None:
    index = chunk.targets.long().unsqueeze(2)  # [P, C, 1]
    for term, logits in enumerate(_logits(chunk)):
        torch.neg(logits.log_softmax(2).gather(2, index).squeeze(2), out=nll[term])


def _backward(grad: Tensor, log_sums: Tensor, chunk: Chunk) -> list[Tensor]:
    index = chunk.targets.long().unsqueeze(2)
    grads = []
    for term, logits in enumerate(_logits(chunk)):
        some = _minus_onehot(logits.softmax(2), index)
        each = grad[term] if term == 0 or chunk.scale == 1 else grad[term] / chunk.scale
        grads.append(some.mul_(each[:, None, None]).flatten(1))
    if chunk.conditioning is not None:
        grads[1] += grads[0]
    return [some.to(chunk.prior.x.dtype) for some in grads]


# PyTorch's softmax in backward does not need the sums from forward.
PYTORCH = Kernels(_forward, _backward, wants_log_sums=False)


def with_logits_chunked(
    nll: Tensor,
    grads: Sequence[Tensor],
    images: Tensor,
    logits: Tensor,
    conditioning: Tensor | None,
    scale: float,
) -> None:
    """Fill the nll of every value, ``[T, N, H, W, C]``, from given logits ``[N, L, C, H, W]``.

    Args:
        grads: empty, or the gradients of each term with respect to its own logits, which are filled
            with softmax(A + B) - onehot, and (softmax(A / scale) - onehot) / scale.
    """
    for where in chunks(images):
        index = rows(images, where).long().unsqueeze(2)  # [P, C, 1]
        terms = [_by_level(logits, where).flatten(0, 2).to(nll.dtype)]  # [P, C, L]
        if conditioning is not None:
            alone = _by_level(conditioning, where).flatten(0, 2).to(nll.dtype)
            terms = [terms[0] + alone, alone if scale == 1 else alone / scale]
        for term, out in enumerate(_of_terms(nll, where)):
            log_p = terms[term].log_softmax(2)
            torch.neg(log_p.gather(2, index).squeeze(2), out=out)
            if grads:
                grad = _minus_onehot(log_p.exp_(), index)
                part = _by_level(grads[term], where)
                part.copy_(
                    grad.view(part.shape) if term == 0 else grad.div_(scale).view(part.shape)
                )


def _by_level(logits: Tensor, where: Where) -> Tensor:
    """View a chunk of ``[N, L, C, H, W]`` as ``[n, h, W, C, L]``."""
    return logits[where[0], :, :, where[1]].permute(0, 3, 4, 2, 1)


def _minus_onehot(p: Tensor, index: Tensor) -> Tensor:
    """Compute ``p - onehot(index)`` in place."""
    return p.scatter_add_(2, index, p.new_full((), -1).expand(index.shape))
