"""Helpers that apply autocast to tensors or disable it."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_DEVICES = [name for name in ("cpu", "cuda", "xpu", "mps") if torch.amp.is_autocast_available(name)]
"""The devices that support autocast. Dynamo of torch 2.11 cannot trace the query, so it runs once,
at import.
"""


def autocast(x: Tensor, *others: Tensor | None) -> list[Any]:
    """Cast the tensors to autocast's dtype if it is enabled; like PyTorch, keep float64."""
    device = x.device.type
    on = device in _DEVICES and torch.is_autocast_enabled(device)
    if not on or x.dtype == torch.float64:
        return [x, *others]
    dtype = torch.get_autocast_dtype(device)
    return [None if tensor is None else tensor.to(dtype) for tensor in (x, *others)]


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Disable autocast in a block or, as a decorator, in each call of a function.

    It is disabled for the CPU, for CUDA and for this machine's type of accelerator, and restored
    afterwards.
    """
    enabled = [kind for kind in _device_types() if torch.is_autocast_enabled(kind)]
    if not enabled:  # a fast path: this function is called for each value of an image
        yield
        return
    with contextlib.ExitStack() as stack:
        for kind in enabled:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@functools.cache
def _device_types() -> set[str]:
    accelerator = torch.accelerator.current_accelerator()
    return {"cpu", "cuda"} if accelerator is None else {"cpu", "cuda", accelerator.type}
