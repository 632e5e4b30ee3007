"""Private copies of networks, to be run and changed at will."""

import copy
import functools
import types
import weakref
from typing import Any, TypeVar

from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)
Copied = TypeVar("Copied")


def can_copy(model: nn.Module) -> bool:
    """Return False if a module holds functions that may refer to the module itself.

    A deep copy would share them, and with them the original's parameters.
    """
    kept = (value for module in model.modules() for value in vars(module).values())
    return not any(map(_may_refer, kept))


def _may_refer(value: Any, depth: int = 4) -> bool:
    """Return True if a deep copy of a value may go on referring to the original's module."""
    if isinstance(value, types.FunctionType):
        return bool(value.__closure__)
    if isinstance(value, weakref.ReferenceType):
        return True
    inner: list[Any] = []
    if isinstance(value, functools.partial):
        inner = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list | tuple):
        inner = list(value)
    return depth > 0 and any(_may_refer(each, depth - 1) for each in inner)


def copy_model(model: Model) -> Model:
    """Return a deep copy; tensors that a module computed from its parameters are copied too."""
    return copy_together(model, None)[0]


def copy_together(model: Model, other: Copied) -> tuple[Model, Copied]:
    """Return deep copies of a model and of an object that shares modules or tensors with it."""
    kept = [value for module in model.modules() for value in vars(module).values()]
    tensors = [value for value in kept if isinstance(value, Tensor) and not value.is_leaf]
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in tensors}
    return copy.deepcopy(model, memo), copy.deepcopy(other, memo)
