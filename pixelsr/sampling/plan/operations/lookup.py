"""Lookups of integers: one-hot encoding and embeddings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..builder import Builder
from ..graph import PerChannel, Pointwise
from ..origins import Origins, Unstructured, layout_of
from ..tape import CONSTANT, IMAGE, Ref
from .integers import bounds_of
from .linear import columns_out, contraction
from .pointwise import A, B


def _levels_of(builder: Builder, x: Ref, levels: int) -> Origins:
    """Return the origins ``[..., levels]`` of whether integers equal 0, 1 .. levels - 1."""
    if levels < 1:
        raise Unstructured("derives the number of classes from values")
    origins = builder.origins(x)
    builder.check(origins)
    shape = (*x.shape, levels)
    origins = np.broadcast_to(origins[..., None], shape)
    layout = layout_of(origins)
    operand = builder.operand(layout.canonical(origins), pointwise=True)
    level = layout.canonical(np.broadcast_to(np.arange(levels), shape))[:, 0, 0]
    numbers = torch.arange(levels, device="cpu")
    name = builder.recipe(("levels", levels), lambda raw: numbers)
    constant = PerChannel(name, tuple(level.tolist()))
    other = builder.whole(builder.add(constant, len(level), operand.size))
    op = Pointwise(("eq", A, B), (operand, other))
    number = builder.add(op, len(level), operand.size, bounds=(0, 1))
    return layout.restored(builder.map_origins(number))


def _embedding(builder: Builder, weight: Ref, x: Ref, *options: Any) -> None:
    """Make the map of rows of a table, chosen by integers, as a sum over all rows."""
    if x.kind != IMAGE or weight.kind != CONSTANT:
        raise builder.unsupported("looks up other than the image in a constant table")
    low, high = bounds_of(builder, x)
    if low < 0:
        raise builder.unsupported(f"looks up negative numbers, from {low:g} on")
    levels = int(high) + 1
    name, live = builder.weight(weight, columns_out)
    chosen = _levels_of(builder, x, levels)
    builder.set_result(contraction(builder, chosen, (name, live[:, :levels])))


def _one_hot(builder: Builder, tensor: Ref, num_classes: int = -1) -> None:
    builder.set_result(_levels_of(builder, tensor, num_classes))


LOOKUPS: dict[str, Callable[..., None]] = {"embedding": _embedding, "one_hot": _one_hot}
