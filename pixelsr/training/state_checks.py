"""Checks that the tensors of a checkpoint are those of a state of training."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def check_same(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Check that tensors have the expected names, shapes and dtypes.

    Raises:
        ValueError: they do not; the message names the first such tensor.
    """
    if odd := sorted(expected.keys() ^ tensors.keys()):
        where = "is missing" if odd[0] in expected else "is unexpected"
        raise ValueError(f"the tensor {odd[0]} {where}")
    for name, wanted in expected.items():
        tensor = tensors[name]
        if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"{name} is {tensor.dtype} {list(tensor.shape)}, "
                f"expected {wanted.dtype} {list(wanted.shape)}"
            )


def check_values(tensors: Mapping[str, Tensor], step: int, scaler: Mapping[str, Any]) -> None:
    """Check that tensors of a state have values that a run can come to in `step` steps.

    Args:
        tensors: of the right names, shapes and dtypes.
        step: steps taken.
        scaler: the state of a fresh scaler of the same recipe, whose constants are those of all.
    Raises:
        ValueError: they do not; the message names the first such tensor.
    """
    most = 0.0
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite")
        if name.startswith("optimizer.") and name.endswith(".step") and tensor.dim() == 0:
            taken = tensor.item()
            if not 1 <= taken <= step or taken % 1:
                raise ValueError(f"{name} must be a whole number from 1 to {step}, got {taken}")
            most = max(most, taken)
    if not scaler and most < step:  # which else leaves out steps that overflowed
        raise ValueError(f"the optimizer has taken {most:.0f} steps, expected {step}")
    for key, constant in scaler.items():
        value = tensors[f"scaler.{key}"].item()
        if key == "scale":
            fits, expected = value > 0, "more than 0"
        elif key == "_growth_tracker":
            largest = min(step, scaler["growth_interval"])
            fits, expected = 0 <= value <= largest, f"from 0 to {largest}"
        else:
            fits, expected = value == constant, f"{constant}"
        if not fits:
            raise ValueError(f"scaler.{key} must be {expected}, got {value}")
