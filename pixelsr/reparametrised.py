"""Networks that compute weights of other tensors: weight norm, spectral norm, pruning."""

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from pixelsr.copies import can_copy, copy_model

_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)
"""The hooks that compute a weight before a forward, as `torch.nn.utils.weight_norm` adds one."""


def is_reparametrised(model: nn.Module) -> bool:
    """Return True if any weight is computed of other tensors, by a parametrisation or by a hook."""
    return any(is_parametrized(m) or _hooks(m) for m in model.modules())


@torch.inference_mode(False)  # a parameter of the copy may be written to later
@torch.no_grad()
def plain_copy(model: nn.Module) -> nn.Module:
    """Return a deep copy whose parameters are the effective weights, those of the next forward.

    Raises:
        ValueError: the model holds functions that refer to it, which a copy would share.
    """
    if not can_copy(model):
        raise ValueError(
            f"{type(model).__name__} holds functions that refer to itself, so that no copy with "
            "other weights can be made of it"
        )
    copied = copy_model(model)
    for module in copied.modules():
        _apply_hooks(module)
        if is_parametrized(module):
            _apply_parametrisations(module)
    return copied


def _hooks(module: nn.Module) -> dict[int, WeightNorm | SpectralNorm | BasePruningMethod]:
    hooks = module._forward_pre_hooks.items()
    return {key: hook for key, hook in hooks if isinstance(hook, _HOOKS)}


def _apply_hooks(module: nn.Module) -> None:
    for key, hook in _hooks(module).items():
        hook(module, ())  # in train mode a spectral norm takes a step before each forward
        hook.remove(module)
        del module._forward_pre_hooks[key]


def _apply_parametrisations(module: nn.Module) -> None:
    """Replace parametrised tensors by their values.

    A copied module shares its class with the original, and `remove_parametrizations` would take
    the weight from both.
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
