"""Autocast for registered operators: as for the library's convolutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .library import LIBRARY


def cast_under_autocast(name: str) -> None:
    """Have an operator compute in autocast's dtype; float64 is never computed in less."""
    operator = getattr(torch.ops.pixelsr, name).default
    for device_type, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        LIBRARY.impl(name, _casting(operator, device_type), key)


def _casting(operator: Callable[..., Any], device_type: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        dtype = torch.get_autocast_dtype(device_type)
        with torch.autocast(device_type, enabled=False):
            return operator(*(_cast(argument, dtype) for argument in arguments))

    return call


def _cast(argument: Any, dtype: torch.dtype) -> Any:
    if not isinstance(argument, Tensor) or not argument.is_floating_point():
        return argument
    return argument if argument.dtype == torch.float64 else argument.to(dtype)
