"""The weights used for sampling: effective values, rounding, checks and version numbers."""

import inspect
import itertools
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixelsr.utils.modules import plain_copy, takes_steps

from .signature import signature

_numbers = itertools.count()


@dataclass(frozen=True)
class _Snapshot:
    number: int
    tensors: dict[str, Tensor]


_snapshots: "weakref.WeakKeyDictionary[nn.Module, _Snapshot]" = weakref.WeakKeyDictionary()


@torch.no_grad()
def weights_number(model: nn.Module) -> int:
    """Check a model's parameters and buffers, and return a number that identifies their values.

    The values are compared with a copy, since a version counter would miss writes through
    ``parameter.data``.

    Raises:
        ValueError: a parameter is not finite, a buffer holds NaN, or a tensor is on the meta
            device.
    """
    tensors = dict(itertools.chain(model.named_parameters(), model.named_buffers()))
    _check_values(tensors)
    known = _snapshots.get(model)
    if known is None or not _equal(known.tensors, tensors):
        check_finite(model)
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        known = _snapshots[model] = _Snapshot(next(_numbers), copies)
    return known.number


def _equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    if a.keys() != b.keys() or not all(_alike(a[name], b[name]) for name in a):
        return False
    if all(tensor.device.type == "cpu" for tensor in a.values()):
        return all(torch.equal(a[name], b[name]) for name in a)
    found = [(a[name] == b[name]).all() for name in a]  # synchronizes a GPU only once
    return bool(torch.stack([equal.to(found[0].device) for equal in found]).all())


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and a.shape == b.shape


def _check_values(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device, which keeps no values; expected loaded weights"
            )


def check_finite(model: nn.Module) -> None:
    """Check that parameters are finite and buffers hold no NaN; a mask buffer may be infinite.

    Raises:
        ValueError: a parameter is not finite, or a buffer holds NaN.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"the parameter {name} holds NaN or infinity; expected finite values")
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and buffer.isnan().any():
            raise ValueError(f"the buffer {name} holds NaN")


WEIGHTS = {"float16": torch.float16, "bfloat16": torch.bfloat16}

_Copy = tuple[object, nn.Module]  # (key of the original's state, the copy)
_copies: "weakref.WeakKeyDictionary[nn.Module, dict[str, _Copy]]" = weakref.WeakKeyDictionary()


def effective(model: nn.Module, weights: str = "model") -> nn.Module:
    """Return the network that the sampler runs for a model.

    This is the model itself, unless its weights must be rounded or change with each forward: then
    it is a copy whose plain parameters hold the effective values. The copy is cached while the
    model stays the same.

    Args:
        weights: "model" (no rounding), or the dtype to round to, "float16" or "bfloat16".
    Raises:
        ValueError: `weights` has another value, or a weight is not finite or does not fit the
            dtype.
    """
    if weights != "model" and weights not in WEIGHTS:
        raise ValueError(f"weights must be model, float16 or bfloat16, got {weights!r}")
    if weights == "model" and not takes_steps(model):
        return model
    copies = _copies.setdefault(model, {})
    number, current = weights_number(model), signature(model)
    if current is None or weights not in copies or copies[weights][0] != (number, current):
        made = plain_copy(model)
        check_finite(made)
        if weights != "model":
            _round(made, weights)
        copies[weights] = (number, signature(model, keep=True)), made
    return copies[weights][1]


def takes_low_res(model: nn.Module) -> tuple[bool, bool]:
    """Return whether a model can be called with a small image too, and whether it must be."""
    _, *others = inspect.signature(model.forward).parameters.values()
    required = bool(others) and others[0].default is inspect.Parameter.empty
    return required or (bool(others) and others[0].name == "low_res"), required


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
