"""Models with their weights rounded to 16 bits."""

import copy
import weakref

import torch
from torch import Tensor, nn

from .plan.remembered import structure

WEIGHTS = {"float16": torch.float16, "bfloat16": torch.bfloat16}

_Copy = tuple[object, nn.Module]  # the structure of the original, and the rounded copy
_copies: "weakref.WeakKeyDictionary[nn.Module, dict[str, _Copy]]" = weakref.WeakKeyDictionary()


def rounded(model: nn.Module, weights: str) -> nn.Module:
    """The model, or with weights "float16" or "bfloat16" a copy of it with its weights rounded so.

    The copy is kept, and follows the model when its parameters change.

    Raises:
        ValueError: another name, or a weight that does not fit.
    """
    if weights == "model":
        return model
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be model, float16 or bfloat16, got {weights!r}")
    copies, as_it_stands = _copies.setdefault(model, {}), structure(model)
    if weights not in copies or copies[weights][0] != as_it_stands:
        copies[weights] = as_it_stands, copy.deepcopy(model)
    _, own = copies[weights]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            own.get_parameter(name).copy_(_round(name, parameter, weights))
        for name, buffer in model.named_buffers():
            own.get_buffer(name).copy_(buffer)
    return own


def _round(name: str, parameter: Tensor, weights: str) -> Tensor:
    values = parameter.to(WEIGHTS[weights])
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{name} does not fit weights={weights!r}: "
            f"it holds a value beyond {torch.finfo(WEIGHTS[weights]).max:.5g}"
        )
    return values
