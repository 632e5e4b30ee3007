"""Which weights a model has: a number that changes when any of them does."""

import itertools
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_numbers = itertools.count()


@dataclass(frozen=True)
class _Snapshot:
    number: int
    tensors: dict[str, Tensor]


_snapshots: "weakref.WeakKeyDictionary[nn.Module, _Snapshot]" = weakref.WeakKeyDictionary()


@torch.no_grad()
def weights_number(model: nn.Module) -> int:
    """A number that stands for the values of all parameters and buffers; checks that they are good.

    They are compared with a copy, value by value: a version counter would miss what is written
    through ``parameter.data``.

    Raises:
        ValueError: a parameter is not finite, a buffer holds NaN, or there are no values.
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
    found = [(a[name] == b[name]).all() for name in a]  # a GPU is waited for once
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
    """Check that weights are finite; a buffer may be infinite, as a mask is.

    Raises:
        ValueError: a parameter is not finite, or a buffer holds NaN.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"the weights hold NaN or infinity, in {name}; expected finite ones")
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and buffer.isnan().any():
            raise ValueError(f"the buffer {name} holds NaN")
