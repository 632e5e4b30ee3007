"""Unwrapping and copying of `nn.Module`s, including reparametrized ones."""

import contextlib
import copy
import functools
import types
import weakref
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim.swa_utils import AveragedModel

_WITH_MODULE = (DataParallel, DistributedDataParallel, AveragedModel)


def unwrap(model: Any) -> Any:
    """Return the model inside any nesting of PyTorch's wrappers; other objects are returned as is.

    The wrappers are `DataParallel`, `DistributedDataParallel`, `AveragedModel` and `torch.compile`.
    """
    while isinstance(model, nn.Module):
        if isinstance(model, _WITH_MODULE):
            model = model.module
        elif "_orig_mod" in model._modules:  # from torch.compile
            model = model._modules["_orig_mod"]
        else:
            break
    return model


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode within the context; its own mode is restored afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextlib.contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Restore the attributes of all modules at the end of the context."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            own = vars(module)
            own.update(attributes)  # first, since another thread may run the module
            for name in own.keys() - attributes.keys():
                own.pop(name, None)


Model = TypeVar("Model", bound=nn.Module)
Copied = TypeVar("Copied")


def can_copy(model: nn.Module) -> bool:
    """Return False if a module holds functions that may refer to the module itself.

    A deep copy would share them, and with them the original's parameters.
    """
    kept = (value for module in model.modules() for value in vars(module).values())
    return not any(map(_may_refer, kept))


def _may_refer(value: Any, depth: int = 4) -> bool:
    """Return True if a deep copy of a value may still refer to the original's module."""
    if isinstance(value, types.FunctionType):
        return any(not _is_plain(cell) for cell in value.__closure__ or ())
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


def _is_plain(cell: types.CellType) -> bool:
    """Return True if a variable of a closure holds a number, a string or the like."""
    try:
        value = cell.cell_contents
    except ValueError:  # not assigned yet
        return False
    return value is None or isinstance(value, int | float | str | torch.dtype | torch.device)


def copy_model(model: Model) -> Model:
    """Return a deep copy of a model, with the non-leaf tensors that its modules hold."""
    return copy_together(model, None)[0]


def copy_together(model: Model, other: Copied) -> tuple[Model, Copied]:
    """Return deep copies of a model and of an object that shares modules or tensors with it."""
    kept = [value for module in model.modules() for value in vars(module).values()]
    tensors = [value for value in kept if isinstance(value, Tensor) and not value.is_leaf]
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in tensors}
    return copy.deepcopy(model, memo), copy.deepcopy(other, memo)


_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)
"""The hooks that compute a weight before a forward, such as `torch.nn.utils.weight_norm` adds."""


def has_own_hooks(model: nn.Module) -> bool:
    """Return True if a forward calls hooks other than those that compute weights."""
    every = torch.nn.modules.module
    if every._global_forward_hooks or every._global_forward_pre_hooks:
        return True
    return any(
        module._forward_hooks or len(_hooks(module)) < len(module._forward_pre_hooks)
        for module in model.modules()
    )


def takes_steps(model: nn.Module) -> bool:
    """Return True if each forward changes the weights: spectral norm in train mode."""
    return any(
        isinstance(own, _SpectralNorm)
        or any(isinstance(hook, SpectralNorm) for hook in own._forward_pre_hooks.values())
        for own in model.modules()
        if own.training
    )


def is_reparametrized(model: nn.Module) -> bool:
    """Return True if a parametrization or a hook computes any weight from other tensors."""
    return any(is_parametrized(m) or _hooks(m) for m in model.modules())


@torch.inference_mode(False)  # so that the copy's parameters can be modified later
@torch.no_grad()
def plain_copy(model: nn.Module) -> nn.Module:
    """Return a deep copy whose parameters are the weights that the next forward would use.

    Raises:
        ValueError: the model holds functions that refer to it, which a copy would share.
    """
    if not can_copy(model):
        raise ValueError(
            f"{type(model).__name__} holds functions that refer to the model itself, so it cannot "
            "be copied with other weights"
        )
    copied = copy_model(model)
    for module in copied.modules():
        _apply_hooks(module)
        if is_parametrized(module):
            _apply_parametrizations(module)
    return copied


def _hooks(module: nn.Module) -> dict[int, WeightNorm | SpectralNorm | BasePruningMethod]:
    hooks = module._forward_pre_hooks.items()
    return {key: hook for key, hook in hooks if isinstance(hook, _HOOKS)}


def _apply_hooks(module: nn.Module) -> None:
    for key, hook in _hooks(module).items():
        hook(module, ())  # in train mode, spectral norm takes a step before each forward
        hook.remove(module)
        del module._forward_pre_hooks[key]


def _apply_parametrizations(module: nn.Module) -> None:
    """Replace parametrized tensors by their current values.

    `remove_parametrizations` cannot be used: a copied module shares its class with the original,
    and both would lose the weight.
    """
    originals = {name: list(of.parameters()) for name, of in module.parametrizations.items()}  # type: ignore[operator,union-attr]
    values = {name: getattr(module, name).detach().clone() for name in originals}
    module.__class__ = type_before_parametrizations(module)
    del module.parametrizations
    for name, value in values.items():
        if not originals[name]:
            module.register_buffer(name, value)
            continue
        trained = any(parameter.requires_grad for parameter in originals[name])
        module.register_parameter(name, nn.Parameter(value, trained))
