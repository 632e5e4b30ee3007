"""The facts that a network's forward can see, as a value: a plan holds while they stay equal."""

import dataclasses
import functools
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (type(None), bool, int, str, bytes, torch.dtype, torch.device, torch.layout)
_LIBRARIES = {"torch", "numpy", "triton", "pixelsr", *sys.stdlib_module_names} - {"__main__"}
"""Code that does not change while a program runs: its classes and globals are not followed."""
_INTERNAL = {
    "training",
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
}
"""Attributes of a module that `_module_facts` reads on its own."""
_IGNORED = {
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "_non_persistent_buffers_set",
    "_is_full_backward_hook",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
}
"""Attributes of a module that do not change the values of a forward pass."""

Fingerprint = tuple[Any, ...]


def fingerprint(model: nn.Module, *, keep: bool = False) -> Fingerprint:
    """Return what a plan of `model` depends on, comparable by ``==``.

    It holds the modules with their modes and hooks, the attributes of modules and of their
    classes, and the values that their functions read as globals, closures or defaults. Parameters
    count by identity, dtype and device, as a plan refers to them by name; buffers and other tensors
    count by value, as a forward can turn them into numbers.

    Args:
        keep: copy tensors, for a fingerprint that is compared with later ones.
    """
    return _Reader(keep).model(model)


class _Identity:
    """An object that equals only itself; held weakly where that is possible."""

    def __init__(self, value: object) -> None:
        try:
            self._get: Callable[[], object] = weakref.ref(value)
        except TypeError:
            self._get = lambda: value

    def __eq__(self, other: object) -> bool:
        own = self._get()
        return isinstance(other, _Identity) and own is not None and own is other._get()

    __hash__ = None  # type: ignore[assignment]


class _Values:
    """A tensor that equals one of the same values, dtype, shape and device."""

    def __init__(self, tensor: Tensor, keep: bool) -> None:
        self.tensor = tensor.detach().clone() if keep else tensor

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Values):
            return False
        a, b = self.tensor, other.tensor
        if (a.dtype, a.shape, a.device, a.layout) != (b.dtype, b.shape, b.device, b.layout):
            return False
        if a.is_meta:
            return a is b
        equal = (a == b) | (a != a) & (b != b)  # NaN equals NaN
        return bool(equal.all())

    __hash__ = None  # type: ignore[assignment]


class _Reader:
    """Reads facts; an object that is met again is a reference to the first time."""

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.seen: dict[int, int] = {}

    def model(self, model: nn.Module) -> Fingerprint:
        hooks = torch.nn.modules.module
        everywhere = (hooks._global_forward_hooks, hooks._global_forward_pre_hooks)
        modules = [(name, self._module(module)) for name, module in model.named_modules()]
        return self._hooks(everywhere), tuple(modules)

    def _module(self, module: nn.Module) -> Fingerprint:
        own = vars(module)
        parameters = tuple(
            (name, _Identity(p), p.dtype, p.device)
            for name, p in module._parameters.items()
            if p is not None
        )
        buffers = tuple((name, self.value(b)) for name, b in module._buffers.items())
        attributes = tuple(
            (name, self.value(value))
            for name, value in own.items()
            if name not in _INTERNAL and name not in _IGNORED
        )
        hooks = self._hooks((module._forward_hooks, module._forward_pre_hooks))
        classes = tuple(map(self._class, type(module).__mro__))
        return _Identity(module), classes, module.training, hooks, parameters, buffers, attributes

    def _class(self, kind: type) -> Any:
        if _is_library(kind.__module__) or id(kind) in self.seen:
            return _Identity(kind), self.value(vars(kind).get("forward"))
        self.seen[id(kind)] = len(self.seen)
        own = [(name, value) for name, value in vars(kind).items() if not name.startswith("__")]
        return _Identity(kind), tuple((name, self.value(value)) for name, value in own)

    def _hooks(self, dictionaries: Iterable[dict[int, Any]]) -> Fingerprint:
        return tuple(self.value(hook) for hooks in dictionaries for hook in hooks.values())

    def value(self, value: Any) -> Any:
        """Return a value as something comparable."""
        if isinstance(value, _PLAIN):
            return type(value), value
        if isinstance(value, float | complex):
            return type(value), repr(value)  # NaN equals NaN, and 0.0 is not -0.0
        if isinstance(value, Tensor):
            return _Values(value, self.keep)
        if isinstance(value, np.ndarray | np.generic):
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, nn.Module | type | types.ModuleType | torch.Generator):
            return _Identity(value)
        if id(value) in self.seen:
            return "seen", self.seen[id(value)]
        self.seen[id(value)] = len(self.seen)
        return self._compound(value)

    def _compound(self, value: Any) -> Any:
        if isinstance(value, list | tuple | set | frozenset):
            items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
            return type(value), tuple(map(self.value, items))
        if isinstance(value, dict):
            return type(value), tuple((self.value(k), self.value(v)) for k, v in value.items())
        if isinstance(value, functools.partial):
            return "partial", *map(self.value, (value.func, value.args, value.keywords))
        if isinstance(value, types.MethodType):
            return "method", self.value(value.__func__), self.value(value.__self__)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        followed = dataclasses.is_dataclass(value) or isinstance(value, types.SimpleNamespace)
        if hasattr(value, "__dict__") and (followed or not _is_library(type(value).__module__)):
            return type(value), self.value(vars(value))
        return _Identity(value)

    def _function(self, function: types.FunctionType) -> Any:
        """Return a function's identity, and the values that it takes from outside."""
        if _is_library(function.__module__):
            return _Identity(function)
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        names, outside = function.__code__.co_names, function.__globals__
        read = [outside[name] for name in names if name in outside]
        given = [function.__defaults__, function.__kwdefaults__]
        return _Identity(function), tuple(map(self.value, [*cells, *read, *given]))


def _is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
