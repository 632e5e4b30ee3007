"""Normalizations: softmax and layer normalization over channels, and batch normalization."""

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from ..builder import Builder, flat
from ..graph import Operand, PerChannel, Pointwise
from ..ir import Expression
from ..origins import Layout, plain_layout
from ..tape import CONSTANT, Ref
from .pointwise import A, B, C
from .reductions import centered, channelwise, exponentials, repeat, squares, sum_of


def _over_channels(
    builder: Builder, x: Ref, dims: Sequence[int]
) -> tuple[Operand, Callable[[Expression, tuple[Operand, ...]], None], int]:
    """Return an operand, its number of channels along `dims`, and a function to finish with.

    The function makes the result, of the shape of `x`, from an expression.
    """
    operand, layout, count = channelwise(builder, x, dims)
    own = [dim % len(x.shape) for dim in dims]

    def finish(expression: Expression, args: tuple[Operand, ...]) -> None:
        number = builder.add(Pointwise(expression, args), len(args[0].reads), args[0].size)
        rest = [size for dim, size in enumerate(x.shape) if dim not in own]
        split = (*layout.split[:-1], count)
        moved = Layout((*rest, count), split, layout.roles).restored(builder.map_origins(number))
        moved = moved.reshape(*rest, *(x.shape[dim] for dim in own))
        builder.set_result(np.moveaxis(moved, range(-len(own), 0), own))

    return operand, finish, count


def _softmax(builder: Builder, x: Ref, dim: int, half_to_float: bool) -> None:
    operand, finish, count = _over_channels(builder, x, (dim,))
    powers, _ = exponentials(builder, operand, count)
    total = repeat(sum_of(builder, powers, count), count)
    finish(("div", A, B), (powers, total))


def _log_softmax(builder: Builder, x: Ref, dim: int, half_to_float: bool) -> None:
    operand, finish, count = _over_channels(builder, x, (dim,))
    powers, largest = exponentials(builder, operand, count)
    total = repeat(sum_of(builder, powers, count), count)
    finish(("sub", ("sub", A, B), ("log", C)), (operand, largest, total))


def _layer_norm(
    builder: Builder,
    x: Ref,
    shape: Sequence[int],
    weight: Ref | None,
    bias: Ref | None,
    eps: float,
) -> None:
    dims = range(len(x.shape) - len(shape), len(x.shape))
    operand, finish, count = _over_channels(builder, x, tuple(dims))
    difference = centered(builder, operand, count)
    variance = repeat(sum_of(builder, squares(builder, difference), count, 1 / count), count)
    tree: Expression = ("div", A, ("sqrt", ("add", B, ("const", eps))))
    args = [difference, variance]
    groups = len(operand.reads) // count
    for name, ref in (("mul", weight), ("add", bias)):
        if ref is not None:
            tree = (name, tree, ("arg", len(args)))
            args.append(_per_channel(builder, ref, tuple(range(count)) * groups, operand.size))
    finish(tree, tuple(args))


def _per_channel(
    builder: Builder, ref: Ref, index: tuple[int, ...], size: tuple[int, int]
) -> Operand:
    if ref.kind != CONSTANT:
        raise builder.unsupported("its scale or offset is not a constant")
    op = PerChannel(builder.constant(ref.number, flat), index)
    return builder.whole(builder.add(op, len(index), size))


def _batch_norm(
    builder: Builder,
    x: Ref,
    weight: Ref | None,
    bias: Ref | None,
    mean: Ref | None,
    variance: Ref | None,
    training: bool,
    momentum: float,
    eps: float,
) -> None:
    """Make ``x * scale + offset`` of a batch normalization in eval mode."""
    if training or mean is None or variance is None:
        raise builder.unsupported(
            "normalizes by the statistics of the batch, which mixes samples and positions; "
            "call model.eval() first"
        )
    if len(x.shape) != 4:
        raise builder.unsupported("normalizes other than a feature map [N, C, H, W]")
    refs = (weight, bias, mean, variance)
    if any(ref is not None and ref.kind != CONSTANT for ref in refs):
        raise builder.unsupported("its statistics are not constants")
    key = (*(None if ref is None else ref.number for ref in refs), eps)

    def scale(raw: Sequence[Tensor]) -> Tensor:
        inverse = (raw[variance.number] + eps).rsqrt()
        return inverse if weight is None else inverse * raw[weight.number]

    def offset(raw: Sequence[Tensor]) -> Tensor:
        shifted = -raw[mean.number] * scale(raw)
        return shifted if bias is None else shifted + raw[bias.number]

    channels = tuple(range(x.shape[1]))
    operand = builder.operand(builder.origins(x)[0])
    factors = []
    for kind, recipe in (("scale", scale), ("offset", offset)):
        op = PerChannel(builder.recipe((kind, *key), recipe), channels)
        factors.append(builder.whole(builder.add(op, len(channels), operand.size)))
    expression = ("add", ("mul", A, B), C)
    builder.result(Pointwise(expression, (operand, *factors)), plain_layout(x.shape))


NORMALIZATIONS: dict[str, Callable[..., None]] = {
    "log_softmax": _log_softmax,
    "cudnn_batch_norm": _batch_norm,
    "miopen_batch_norm": _batch_norm,
    "native_batch_norm": _batch_norm,
    "native_layer_norm": _layer_norm,
    "softmax": _softmax,
}
