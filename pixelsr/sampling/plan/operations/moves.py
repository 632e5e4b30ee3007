"""Operations that move elements: they are run on the origins of the elements."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..builder import Builder
from ..origins import ZERO, Unstructured, layout_of, reads_of
from ..tape import Entry, Ref
from .integers import bounds_of, check_integers

MOVES = {
    "alias",
    "as_strided_copy",
    "cat",
    "clone",
    "constant_pad_nd",
    "copy",
    "detach_copy",
    "diagonal_copy",
    "expand_copy",
    "fill",
    "flip",
    "gather",
    "index",
    "index_put",
    "index_select",
    "permute_copy",
    "pixel_shuffle",
    "pixel_unshuffle",
    "promote",
    "repeat",
    "roll",
    "rot90",
    "scatter",
    "select_copy",
    "select_scatter",
    "slice_copy",
    "slice_scatter",
    "split_with_sizes_copy",
    "stack",
    "to_copy",
    "transpose_copy",
    "tril",
    "triu",
    "unfold_copy",
    "unsafe_view",
    "view_copy",
    "zero",
}
_SCALARS = {"constant_pad_nd": 2, "fill": 1, "scatter": 3}
"""The place of the argument that is the value of elements, not an option."""
_INDICES = {"gather": 2, "index": 1, "index_put": 1, "index_select": 2, "scatter": 2}
"""The place of the argument that says which elements to take."""
_REARRANGES = {"flip", "gather", "index", "index_put", "index_select", "roll", "rot90", "scatter"}
"""Operations that are checked at once, so that an error names them and not a later reader."""
_DIMS = {"flip": 1, "roll": 2}
"""The place of the argument that says along which dimensions elements move."""


def move(builder: Builder, entry: Entry) -> None:
    """Run an operation on the origins of its arguments."""
    if entry.name == "to_copy":
        _check_conversion(builder, entry)
    if "reduce" in entry.kwargs or (entry.name == "index_put" and True in entry.args[3:]):
        raise Unstructured("adds elements")
    if entry.name in _DIMS:
        _check_batch(entry)
    args = [_argument(builder, entry.name, place, arg) for place, arg in enumerate(entry.args)]
    moved = _moved(entry, args)
    results = [moved] if isinstance(moved, Tensor) else list(moved)
    for ref, size, result in zip(entry.outs, entry.sizes, results, strict=True):
        origins = result.numpy()
        if entry.name in _REARRANGES:
            reads_of(layout_of(origins).canonical(origins))
        builder.write(ref, size, origins)


def _argument(builder: Builder, name: str, place: int, value: Any) -> Any:
    """Return an argument with origins in place of elements."""
    if place == _INDICES.get(name):
        return _index(builder, value)
    if place == _SCALARS.get(name) and not isinstance(value, Ref):
        return builder.scalar(float(value))
    return origins_tensor(builder, value)


def _moved(entry: Entry, args: list[Any]) -> Any:
    """Return the result of an operation on origins."""
    name = entry.name
    if name in ("alias", "clone", "promote", "to_copy"):
        return args[0]
    if name == "zero":
        return torch.full_like(args[0], ZERO)
    if name == "fill" and not isinstance(args[1], Tensor):
        return torch.full_like(args[0], args[1])
    if name in ("copy", "fill"):
        return args[1].expand(args[0].shape)
    if name == "constant_pad_nd" and len(args) == 2:
        args = [*args, ZERO]
    kwargs = {key: value for key, value in entry.kwargs.items() if key != "memory_format"}
    try:
        if name in ("tril", "triu"):  # ~0 is ZERO
            return ~_functional(entry)(~args[0], *args[1:])
        return _functional(entry)(*args, **kwargs)
    except (NotImplementedError, RuntimeError) as error:  # it does not move integers
        raise Unstructured(f"cannot be followed ({error})") from None


def _functional(entry: Entry) -> Callable[..., Any]:
    """Return the operation itself, or for an in-place one its form that returns a new tensor."""
    overload: Callable[..., Any] = entry.op
    if entry.op._schema.is_mutable:
        overload = getattr(getattr(torch.ops.aten, entry.name), entry.op._overloadname)
    return overload


def origins_tensor(builder: Builder, value: Any) -> Any:
    """Return an argument with a tensor of origins in place of each tensor."""
    if isinstance(value, Ref):
        return torch.from_numpy(np.ascontiguousarray(builder.origins(value)))
    return [origins_tensor(builder, item) for item in value] if isinstance(value, tuple) else value


def _index(builder: Builder, value: Any) -> Any:
    """Return an argument with the values of each tensor, which must be constants."""
    if isinstance(value, Ref):
        return builder.value(value).cpu()
    return [_index(builder, item) for item in value] if isinstance(value, tuple) else value


def _check_batch(entry: Entry) -> None:
    """Check that an operation does not move elements along the batch."""
    shape = entry.args[0].shape
    dims = [dim % len(shape) for dim in entry.args[_DIMS[entry.name]]]
    if 0 in dims and shape[0] == 1:
        raise Unstructured("mixes the samples of a batch")


def _check_conversion(builder: Builder, entry: Entry) -> None:
    """Check that a conversion to another dtype keeps the values."""
    source, target = entry.args[0].dtype, entry.outs[0].dtype
    if target.is_floating_point or source in (target, torch.bool):
        return
    if source.is_floating_point or target == torch.bool:
        raise builder.unsupported(f"rounds {source} to {target}, which the planner does not follow")
    check_integers(builder, bounds_of(builder, entry.args[0]), target)
