"""Registers operators whose kernels are Triton's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pixelsr.interpreter import interprets

from .library import HAS_TRITON, LIBRARY

Operator = Callable[..., Any]


def register_triton(name: str, run: Operator) -> None:
    """For a GPU, and for a CPU in Triton's interpreter; `run` takes a tensor first."""
    if HAS_TRITON:
        LIBRARY.impl(name, on_its_gpu(run), "CUDA")
        LIBRARY.impl(name, _interpreted(name, run), "CPU")


def on_its_gpu(run: Operator) -> Operator:
    """With the GPU of the first tensor as the current one, which Triton launches on."""

    def call(first: Tensor, *arguments: Any) -> Any:
        with torch.cuda.device(first.device):
            return run(first, *arguments)

    return call


def _interpreted(name: str, run: Operator) -> Operator:
    """On CPU tensors; the interpreter's bfloat16 is wrong, so that float32 stands in for it."""

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
