"""Helpers to register the operators `torch.ops.pixelsr.*`."""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

LIBRARY = torch.library.Library("pixelsr", "DEF")

HAS_TRITON = all(importlib.util.find_spec(name) for name in ("triton", "pixelsr.kernels"))
"""True if the Triton kernels can be imported. An operator imports them only when it is called."""


Operator = Callable[..., Any]


def interprets() -> bool:
    """Return True if Triton's interpreter is on, which runs kernels on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def register_triton(name: str, run: Operator) -> None:
    """Register a Triton kernel for GPUs, and for CPUs in Triton's interpreter.

    The first argument of `run` is a tensor.
    """
    if HAS_TRITON:
        LIBRARY.impl(name, on_its_gpu(run), "CUDA")
        LIBRARY.impl(name, _interpreted(name, run), "CPU")


def on_its_gpu(run: Operator) -> Operator:
    """Wrap `run` to make the GPU of its first argument the current one, as Triton requires."""

    def call(first: Tensor, *arguments: Any) -> Any:
        with torch.cuda.device(first.device):
            return run(first, *arguments)

    return call


def _interpreted(name: str, run: Operator) -> Operator:
    """Wrap `run` for CPU tensors in Triton's interpreter.

    The interpreter computes bfloat16 incorrectly, so float32 replaces it.
    """

    def call(first: Tensor, *arguments: Any) -> Any:
        if not interprets():
            raise ValueError(f"{name} needs a GPU, or TRITON_INTERPRET=1 on a CPU")
        if first.dtype != torch.bfloat16:
            return run(first, *arguments)
        exact = (_cast(argument, torch.float32) for argument in (first, *arguments))
        return tree_map(lambda out: _cast(out, torch.bfloat16), run(*exact))

    return call


def _cast(argument: Any, dtype: torch.dtype) -> Any:
    if not isinstance(argument, Tensor) or argument.dtype not in (torch.bfloat16, torch.float32):
        return argument
    return argument.to(dtype)


def cast_under_autocast(name: str) -> None:
    """Make an operator compute in autocast's dtype; float64 stays float64."""
    operator = getattr(torch.ops.pixelsr, name).default
    for device_type, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        LIBRARY.impl(name, _casting(operator, device_type), key)


def _casting(operator: Callable[..., Any], device_type: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        dtype = torch.get_autocast_dtype(device_type)
        with torch.autocast(device_type, enabled=False):
            return operator(*(_cast_tensor(argument, dtype) for argument in arguments))

    return call


def _cast_tensor(argument: Any, dtype: torch.dtype) -> Any:
    if not isinstance(argument, Tensor) or not argument.is_floating_point():
        return argument
    return argument if argument.dtype == torch.float64 else argument.to(dtype)


def refuse_second_derivatives(name: str) -> None:
    """Make an operator that computes gradients raise RuntimeError in its own backward.

    Otherwise autograd would treat its result as a constant, and second derivatives would be wrong.
    """

    def refuse(ctx: Any, *grads: Any) -> None:
        raise RuntimeError(
            f"{name} has no derivative: second derivatives need another backend, such as 'cropped' "
            "or 'reference'"
        )

    torch.library.register_autograd(
        f"pixelsr::{name}", refuse, setup_context=_keep_nothing, lib=LIBRARY
    )


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass
