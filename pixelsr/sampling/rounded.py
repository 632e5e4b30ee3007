"""Models with their weights rounded to 16 bits."""

import copy
import weakref

import torch
from torch import Tensor, nn

from .fingerprint import fingerprint

WEIGHTS = {"float16": torch.float16, "bfloat16": torch.bfloat16}

_Copy = tuple[object, nn.Module]  # what it is a copy of, and the copy
_copies: "weakref.WeakKeyDictionary[nn.Module, dict[str, _Copy]]" = weakref.WeakKeyDictionary()


def rounded(model: nn.Module, number: int, weights: str) -> nn.Module:
    """The model, or with weights "float16" or "bfloat16" a copy of it with its weights rounded so.

    The copy is kept for as long as the model stays what it is.

    Args:
        number: of the model's weights, see `weights_number`.
    Raises:
        ValueError: another name, or a weight that does not fit.
    """
    if weights == "model":
        return model
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be model, float16 or bfloat16, got {weights!r}")
    copies = _copies.setdefault(model, {})
    if weights not in copies or copies[weights][0] != (number, fingerprint(model)):
        own = copy.deepcopy(model)
        with torch.no_grad():
            for name, parameter in own.named_parameters():
                parameter.copy_(_round(name, parameter, weights))
        copies[weights] = (number, fingerprint(model, keep=True)), own
    return copies[weights][1]


def _round(name: str, parameter: Tensor, weights: str) -> Tensor:
    values = parameter.to(WEIGHTS[weights])
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{name} does not fit weights={weights!r}: "
            f"it holds a value beyond {torch.finfo(WEIGHTS[weights]).max:.5g}"
        )
    return values
