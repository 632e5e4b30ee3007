"""What a network computes, as a value to compare: a plan holds while it stays equal.

A network of this library's and PyTorch's own modules is told by the modules, their modes and
attributes. The forward of any other network may read anything, so it is traced again, and the
graphs are compared, with their constants.
"""

import dataclasses
import operator
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from .plan.trace import trace

_PLAIN = (type(None), bool, int, str, torch.dtype, torch.device)
_LIBRARIES = ("pixelsr", "torch")
_STATE = {name for name in vars(nn.Module()) if name.startswith("_")} | {"training"}
"""Attributes of every module; those that matter are read one by one."""

Signature = tuple[Any, ...]


def signature(model: nn.Module, *, keep: bool = False) -> Signature | None:
    """Return the signature of a network of library modules alone; None for any other.

    Parameters count by identity, dtype, device and shape, as a plan refers to them by name; buffers
    count by value.

    Args:
        keep: copy buffers, for a signature that is compared with later ones.
    """
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


def graph_signature(model: nn.Module, graph: fx.Graph, *, keep: bool = False) -> Signature:
    """Return the signature of a traced graph: its calls and constants, and the layers it calls.

    Args:
        keep: as of `signature`.
    """
    numbers = {node: number for number, node in enumerate(graph.nodes)}
    modules = dict(model.named_modules(remove_duplicate=False))

    def comparable(value: Any) -> Any:
        if isinstance(value, fx.Node):
            return "node", numbers[value]
        if isinstance(value, Tensor):
            return _Values(value, keep)
        return type(value), repr(value) if isinstance(value, float | complex) else value

    facts: list[Any] = [getattr(model, name, None) for name in ("colors", "levels")]
    for node in graph.nodes:
        arguments = fx.node.map_aggregate((node.args, node.kwargs), comparable)
        facts.append((node.op, node.target, arguments))
        if node.op == "call_module":
            layer = modules[str(node.target)]
            facts.append((module_facts(layer, keep), layer.extra_repr()))
        if node.op == "get_attr":
            facts.append(_tensor(operator.attrgetter(str(node.target))(model), keep))
    return tuple(facts)


def traced_signature(
    model: nn.Module, with_low_res: bool, *, keep: bool = False
) -> tuple[Signature, fx.Graph | None]:
    """Return the signature of any network, and the graph where one had to be made.

    Raises:
        PlanError: the forward cannot be traced.
    """
    known = signature(model, keep=keep)
    if known is not None:
        return known, None
    graph = trace(model, with_low_res)
    return graph_signature(model, graph, keep=keep), graph


def module_facts(module: nn.Module, keep: bool) -> Signature:
    """Return a module's identity, class, mode, hooks, parameters and buffers."""
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
    """A value whose changes cannot be seen."""


def _plain(value: Any) -> Any:
    """Return plain values, and containers and dataclasses of them, as something comparable."""
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
    """A tensor that equals one of the same values, dtype, shape and device, bit for bit."""

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
