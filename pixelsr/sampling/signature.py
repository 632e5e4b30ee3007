"""Signatures of networks; a cached plan is valid while its network's signature stays equal.

The signature of a network that consists of pixelsr and PyTorch modules lists the modules, their
modes and their attributes. Any other network may read anything in its forward, so it has none.
"""

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pixelsr.utils.modules import has_own_hooks

_PLAIN = (type(None), bool, int, str, torch.dtype, torch.device)
_LIBRARIES = ("pixelsr", "torch")
_STATE = {name for name in vars(nn.Module()) if name.startswith("_")} | {"training"}
"""Attributes of every module; `module_facts` reads the relevant ones."""

Signature = tuple[Any, ...]


def signature(model: nn.Module, *, keep: bool = False) -> Signature | None:
    """Return the signature of a network of library modules; None for any other network.

    Parameters are compared by identity, dtype, device and shape, since a plan refers to them by
    name. Buffers are compared by value.

    Args:
        keep: copy the buffers, for a signature that is kept and compared later.
    """
    if has_own_hooks(model):
        return None
    facts = []
    for name, module in model.named_modules(remove_duplicate=False):
        if not _is_library(type(module).__module__):
            return None
        own = {key: value for key, value in vars(module).items() if key not in _STATE}
        try:
            attributes = _plain(own)
        except _NotPlainError:
            return None
        facts.append((name, module_facts(module, keep), attributes))
    return tuple(facts)


def module_facts(module: nn.Module, keep: bool) -> Signature:
    """Return a module's identity, forward, mode, parameters and buffers."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    named = [*module._parameters.items(), *module._buffers.items()]
    tensors = tuple((name, _tensor(value, keep)) for name, value in named)
    own_forward = vars(module).get("forward")
    return (
        _Identity(module),
        _Identity(type(module).forward),
        None if own_forward is None else _Identity(own_forward),
        module.training,
        tuple(map(_Identity, hooks)),
        tensors,
    )


def _tensor(tensor: Tensor | None, keep: bool) -> Any:
    if isinstance(tensor, nn.Parameter):
        kind = tensor.dtype, tensor.device, tensor.shape, tensor.requires_grad
        return _Identity(tensor), *kind
    return _Values(tensor, keep) if isinstance(tensor, Tensor) else None


class _NotPlainError(Exception):
    """The error for a value whose changes cannot be detected."""


def _plain(value: Any) -> Any:
    """Return a comparable form of a plain value, or of a container or dataclass of plain values."""
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, float):
        return "float", repr(value)  # NaN equals NaN, and 0.0 is not -0.0
    if type(value) in (tuple, list):
        return type(value), tuple(map(_plain, value))
    if type(value) is dict:
        return "dict", tuple((_plain(k), _plain(v)) for k, v in value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return type(value), tuple(_plain(getattr(value, field.name)) for field in fields)
    raise _NotPlainError


class _Identity:
    """A reference that equals only references to the same object; weak if the object allows it."""

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
    """A tensor compared by dtype, shape, device and values; NaN equals NaN, 0.0 is not -0.0."""

    def __init__(self, tensor: Tensor, keep: bool) -> None:
        self.tensor = tensor.detach().clone() if keep else tensor

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Values):
            return False
        a, b = self.tensor, other.tensor
        if (a.dtype, a.shape, a.device, a.layout) != (b.dtype, b.shape, b.device, b.layout):
            return False
        if a.layout is not torch.strided or a.is_meta or a.is_nested:
            return a is b
        equal = (a == b) | (a != a) & (b != b)  # NaN equals NaN
        if a.is_floating_point():
            equal &= torch.signbit(a) == torch.signbit(b)
        return bool(equal.all())

    __hash__ = None  # type: ignore[assignment]


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in _LIBRARIES
