"""Autocast for functions that choose among backends."""

from typing import Any

import torch
from torch import Tensor

_DEVICES = [name for name in ("cpu", "cuda", "xpu", "mps") if torch.amp.is_autocast_available(name)]
"""Those that autocast knows; asked once, as Dynamo of torch 2.11 cannot trace it."""


def autocast(x: Tensor, *others: Tensor | None) -> list[Any]:
    """All in autocast's dtype, where it is on; as the library has it, float64 stays as it is."""
    device = x.device.type
    on = device in _DEVICES and torch.is_autocast_enabled(device)
    if not on or x.dtype == torch.float64:
        return [x, *others]
    dtype = torch.get_autocast_dtype(device)
    return [None if tensor is None else tensor.to(dtype) for tensor in (x, *others)]
