"""The networks that are drawn from: models with their effective weights, rounded where asked."""

import weakref

import torch
from torch import Tensor, nn

from pixelsr.errors import PlanError
from pixelsr.utils.modules import is_reparametrised, plain_copy

from .plan.trace import left_as_it_was, takes_low_res
from .signature import Signature, traced_signature
from .weights import check_finite, weights_number

WEIGHTS = {"float16": torch.float16, "bfloat16": torch.bfloat16}

_Copy = tuple[object, nn.Module]  # what it is a copy of, and the copy
_copies: "weakref.WeakKeyDictionary[nn.Module, dict[str, _Copy]]" = weakref.WeakKeyDictionary()


def effective(model: nn.Module, weights: str = "model") -> nn.Module:
    """Return the network that a model is drawn from.

    That is the model itself, or where its weights are reparametrised or to be rounded, a copy with
    plain parameters of the effective values. The copy is kept for as long as the model stays the
    same.

    Args:
        weights: "model", or "float16" or "bfloat16": rounded so.
    Raises:
        ValueError: another name, or a weight that is not finite or does not fit.
    """
    if weights != "model" and weights not in WEIGHTS:
        raise ValueError(f"weights must be model, float16 or bfloat16, got {weights!r}")
    if weights == "model" and not is_reparametrised(model):
        return model
    copies = _copies.setdefault(model, {})
    number, current = weights_number(model), _signature(model)
    if current is None or weights not in copies or copies[weights][0] != (number, current):
        made = plain_copy(model)
        check_finite(made)
        if weights != "model":
            _round(made, weights)
        copies[weights] = (number, _signature(model, keep=True)), made
    return copies[weights][1]


def _signature(model: nn.Module, keep: bool = False) -> Signature | None:
    """Return the model's signature; None for a forward that cannot be traced."""
    try:
        with left_as_it_was(model):
            return traced_signature(model, takes_low_res(model)[0], keep=keep)[0]
    except PlanError:
        return None


@torch.no_grad()
def _round(model: nn.Module, weights: str) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(_rounded(name, parameter, weights))


def _rounded(name: str, parameter: Tensor, weights: str) -> Tensor:
    values = parameter.to(WEIGHTS[weights])
    if not torch.isfinite(values).all():
        raise ValueError(
            f"{name} does not fit weights={weights!r}: "
            f"it holds a value beyond {torch.finfo(WEIGHTS[weights]).max:.5g}"
        )
    return values
