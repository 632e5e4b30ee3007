"""Reductions over the channels of a pixel: sums, extremes, variances and norms."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..builder import Builder
from ..graph import Linear, Operand, Pointwise, Term
from ..ir import Expression
from ..origins import Layout, Origins, Reads, Unstructured, layout_of
from ..tape import Ref
from .pointwise import A, B

_Reduced = tuple[Expression, tuple[Operand, ...]]
"""A pointwise expression of operands with one channel for each group of channels."""


def channelwise(builder: Builder, x: Ref, dims: Sequence[int]) -> tuple[Operand, Layout, int]:
    """Return an operand whose last channels are those along `dims`, its layout, and their number.

    The layout is that of the result, with the dimensions kept at size 1.
    """
    own = [dim % len(x.shape) for dim in dims or range(len(x.shape))]
    if 0 in own and len(x.shape) > 1 and x.shape[0] == 1 and len(own) < len(x.shape):
        raise Unstructured("mixes the samples of a batch")
    origins = builder.origins(x)
    builder.check(origins)
    count = math.prod(x.shape[dim] for dim in own)
    moved = np.moveaxis(origins, own, range(-len(own), 0))
    rest = moved.shape[: len(x.shape) - len(own)]
    moved = moved.reshape(*rest, count)
    layout = layout_of(moved)
    if count > 1 and not (layout.roles[-1] == "C" and layout.split[-1] == count):
        raise Unstructured("reduces over positions")
    kept = tuple(1 if dim in own else size for dim, size in enumerate(x.shape))
    split = (*layout.split[:-1], 1) if layout.split[-1] == count else (*layout.split, 1)
    roles = layout.roles if layout.split[-1] == count else layout.roles + "C"
    operand = builder.operand(layout.canonical(moved))
    return operand, Layout(kept, split, roles), count


def sum_of(builder: Builder, operand: Operand, count: int, scale: float = 1.0) -> Operand:
    """Return the sum of each `count` consecutive channels, times `scale`."""
    groups = len(operand.reads) // count
    weight = np.kron(np.eye(groups), np.full((1, count), scale))[:, :, None, None]
    fixed = torch.from_numpy(weight)
    name = builder.recipe(("sum", groups, count, scale), lambda raw: fixed)
    term = Term(operand, name, weight != 0, (0,), (0,), is_sum=True)
    return builder.whole(builder.add(Linear((term,)), groups, operand.size))


def _largest_of(builder: Builder, operand: Operand, count: int) -> Operand:
    """Return the maximum of each `count` consecutive channels."""
    groups = len(operand.reads) // count
    index = np.arange(groups * count).reshape(groups, count)
    while count > 1:
        half = count // 2
        a, b = index[:, :half], index[:, half : 2 * half]
        args = tuple(Operand(operand.reads[own.reshape(-1)], operand.size) for own in (a, b))
        larger = Pointwise(("maximum", ("arg", 0), ("arg", 1)), args)
        made = builder.whole(builder.add(larger, groups * half, operand.size))
        rest = operand.reads[index[:, 2 * half :].reshape(-1)]
        pairs = zip(_arrays(made.reads), _arrays(rest), strict=True)
        merged = [np.concatenate(pair) for pair in pairs]
        operand = Operand(Reads(*merged), operand.size)
        left = count - 2 * half
        index = np.concatenate(
            [
                np.arange(groups * half).reshape(groups, half),
                groups * half + np.arange(groups * left).reshape(groups, left),
            ],
            axis=1,
        )
        count = half + left
    return Operand(operand.reads[index.reshape(-1)], operand.size)


def _arrays(reads: Reads) -> tuple[Origins, ...]:
    return reads.map, reads.channel, reads.dr, reads.dc


def repeat(operand: Operand, count: int) -> Operand:
    """Return each channel `count` times."""
    return Operand(operand.reads[np.repeat(np.arange(len(operand.reads)), count)], operand.size)


def _reduce(make: Callable[..., _Reduced]) -> Callable[..., None]:
    """Return the handler of a reduction over channels; `make` returns what it computes.

    The shape of the result says whether the dimensions are kept.
    """

    def handler(
        builder: Builder,
        x: Ref,
        dim: Any = None,
        keepdim: bool = False,
        *,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        if dtype not in (None, x.dtype):
            raise builder.unsupported("changes the dtype")
        dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
        operand, layout, count = channelwise(builder, x, dims)
        expression, args = make(builder, operand, count, **options)
        number = builder.add(Pointwise(expression, args), len(args[0].reads), args[0].size)
        origins = layout.restored(builder.map_origins(number))
        builder.set_result(origins.reshape(builder.entry.outs[0].shape))

    return handler


def _mean(builder: Builder, x: Operand, count: int) -> _Reduced:
    return A, (sum_of(builder, x, count, 1 / count),)


def _total(builder: Builder, x: Operand, count: int) -> _Reduced:
    return A, (sum_of(builder, x, count),)


def _maximum(builder: Builder, x: Operand, count: int) -> _Reduced:
    return A, (_largest_of(builder, x, count),)


def _minimum(builder: Builder, x: Operand, count: int) -> _Reduced:
    negative = builder.computed(("neg", A), x)
    return ("neg", A), (_largest_of(builder, negative, count),)


def _variance(builder: Builder, x: Operand, count: int, correction: float = 1) -> _Reduced:
    squared = squares(builder, centered(builder, x, count))
    return A, (sum_of(builder, squared, count, 1 / (count - correction)),)


def centered(builder: Builder, x: Operand, count: int) -> Operand:
    """Return each channel minus the mean of its group."""
    mean = repeat(sum_of(builder, x, count, 1 / count), count)
    return builder.computed(("sub", A, B), x, mean)


def squares(builder: Builder, x: Operand) -> Operand:
    """Return the square of each channel."""
    return builder.computed(("square", A), x)


def exponentials(builder: Builder, x: Operand, count: int) -> tuple[Operand, Operand]:
    """Return exp(x - maximum) and the maximum, each of which is repeated for all channels."""
    largest = repeat(_largest_of(builder, x, count), count)
    return builder.computed(("exp", ("sub", A, B)), x, largest), largest


def _logsumexp(builder: Builder, x: Operand, count: int) -> _Reduced:
    powers, largest = exponentials(builder, x, count)
    first = Operand(largest.reads[slice(None, None, count)], largest.size)
    return ("add", ("log", A), B), (sum_of(builder, powers, count), first)


def _norm(builder: Builder, x: Operand, count: int) -> _Reduced:
    return ("sqrt", A), (sum_of(builder, squares(builder, x), count),)


def _vector_norm(builder: Builder, x: Ref, ord: float = 2, *args: Any, **kwargs: Any) -> None:
    if ord != 2:
        raise builder.unsupported(f"takes the norm of order {ord}; expected 2")
    _reduce(_norm)(builder, x, *args, **kwargs)


REDUCTIONS: dict[str, Callable[..., None]] = {
    "amax": _reduce(_maximum),
    "amin": _reduce(_minimum),
    "linalg_vector_norm": _vector_norm,
    "logsumexp": _reduce(_logsumexp),
    "mean": _reduce(_mean),
    "sum": _reduce(_total),
    "var": _reduce(_variance),
}
