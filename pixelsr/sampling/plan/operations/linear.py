"""Convolutions and matrix products with constant weights."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from ..builder import Builder, flat
from ..graph import Biases, BoolArray, Linear, Operand, Term
from ..origins import Layout, Origins, Unstructured, layout_of
from ..tape import CONSTANT, IMAGE, Ref


def _convolution(
    builder: Builder,
    x: Ref,
    weight: Ref,
    bias: Ref | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> None:
    if x.kind != IMAGE or len(x.shape) != 4:
        raise builder.unsupported("convolves other than a feature map [N, C, H, W]")
    if transposed or any(step != 1 for step in stride):
        raise builder.unsupported("changes the resolution by a stride")
    origins, view, roles = builder.origins(x)[0], whole, "CCHW"
    if layout_of(origins).roles == "CWH":  # a transposed map
        origins, view, roles = origins.swapaxes(1, 2), _transposed, "CCWH"
        padding, dilation = padding[::-1], dilation[::-1]
    name, live = builder.weight(weight, view)
    out, into, height, width = live.shape
    rows = tuple(dilation[0] * r - padding[0] for r in range(height))
    cols = tuple(dilation[1] * c - padding[1] for c in range(width))
    operand = builder.operand(origins)
    terms = []
    for group in range(groups):
        own = np.zeros_like(live)
        outs = slice(group * out // groups, (group + 1) * out // groups)
        own[outs] = live[outs]
        chosen = slice(group * into, (group + 1) * into)
        part = Operand(operand.reads[chosen], operand.size)
        terms.append(Term(part, name, own, rows, cols))
    op = Linear(tuple(terms), biases_of(builder, bias, out))
    shape = builder.entry.outs[0].shape
    builder.result(op, Layout(shape, shape, roles))


def biases_of(builder: Builder, bias: Ref | None, out: int) -> Biases:
    """Return the biases of `out` channels."""
    if bias is None:
        return ()
    if bias.kind != CONSTANT:
        raise builder.unsupported("its bias is not a constant")
    return ((builder.constant(bias.number, flat), tuple(range(out))),)


def whole(weight: Tensor) -> Tensor:
    """Return a weight as it is."""
    return weight


def _transposed(weight: Tensor) -> Tensor:
    """Return a kernel with its rows and columns exchanged."""
    return weight.transpose(2, 3)


def _rows_out(weight: Tensor) -> Tensor:
    """Return ``[out, in, 1, 1]`` for a matrix ``[out, in]``."""
    return weight[:, :, None, None]


def columns_out(weight: Tensor) -> Tensor:
    """Return ``[out, in, 1, 1]`` for a matrix ``[in, out]``."""
    return weight.t()[:, :, None, None]


@functools.cache  # a view is identified by its function
def _matrix(number: int, view: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a function from a batch of matrices to a view of one of them."""
    return lambda batch: view(batch[number])


def contraction(
    builder: Builder, x: Origins, weight: tuple[str, BoolArray], biases: Biases = ()
) -> Origins:
    """Return the origins ``[..., out]`` of ``x @ weight.T`` for the origins ``[..., in]``."""
    name, live = weight
    builder.check(x)
    layout = layout_of(x)
    out, inner = live.shape[0], x.shape[-1]
    # The contracted channels are the last ones; other channels are groups.
    trailing = layout.roles[-1] == "C" and layout.split[-1] == inner
    if not trailing and inner > 1:
        raise Unstructured("sums over positions")
    operand = builder.operand(layout.canonical(x))
    made = []
    for first in range(0, len(operand.reads), inner):
        part = Operand(operand.reads[first : first + inner], operand.size)
        op = Linear((Term(part, name, live, (0,), (0,)),), biases)
        made.append(builder.map_origins(builder.add(op, out, operand.size)))
    split = (*layout.split[:-1], out) if trailing else (*layout.split, out)
    roles = layout.roles if trailing else layout.roles + "C"
    return Layout((*x.shape[:-1], out), split, roles).restored(np.concatenate(made))


def _mm(builder: Builder, a: Ref, b: Ref, bias: Ref | None = None) -> None:
    if a.kind == IMAGE and b.kind == CONSTANT:
        weight = builder.weight(b, columns_out)
        biases = biases_of(builder, bias, b.shape[-1])
        builder.set_result(contraction(builder, builder.origins(a), weight, biases))
    elif a.kind == CONSTANT and b.kind == IMAGE and bias is None:
        weight = builder.weight(a, _rows_out)
        builder.set_result(contraction(builder, builder.origins(b).T, weight).T)
    else:
        raise builder.unsupported("multiplies feature maps with each other")


def _addmm(
    builder: Builder, bias: Ref, a: Ref, b: Ref, *, beta: float = 1, alpha: float = 1
) -> None:
    if (beta, alpha) != (1, 1) or math.prod(bias.shape) != b.shape[-1]:
        raise builder.unsupported("adds other than a bias for each output")
    _mm(builder, a, b, bias)


def _bmm(builder: Builder, a: Ref, b: Ref) -> None:
    image, batch, view = (a, b, columns_out) if a.kind == IMAGE else (b, a, _rows_out)
    if image.kind != IMAGE or batch.kind != CONSTANT:
        raise builder.unsupported("multiplies feature maps with each other")
    origins = builder.origins(image)
    origins = origins if image is a else origins.swapaxes(1, 2)
    if _is_one_matrix(builder, batch):
        made = contraction(builder, origins, builder.weight(batch, _matrix(0, view)))
    else:
        made = np.stack(
            [
                contraction(builder, own, builder.weight(batch, _matrix(number, view)))
                for number, own in enumerate(origins)
            ]
        )
    builder.set_result(made if image is a else made.swapaxes(1, 2))


def _is_one_matrix(builder: Builder, batch: Ref) -> bool:
    """Return True if a batch of matrices repeats one matrix."""
    if batch.shape[0] == 1:
        return True
    repeats = builder.values[CONSTANT][batch.number].stride(0) == 0
    if repeats:
        builder.graph.repeated.add(batch.number)
    return repeats


LINEAR: dict[str, Callable[..., None]] = {
    "addmm": _addmm,
    "bmm": _bmm,
    "convolution": _convolution,
    "mm": _mm,
}
