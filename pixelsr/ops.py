"""The registered operators `torch.ops.pixelsr.*`: schema, PyTorch kernel, fake, autograd.

The compiled library, where it was built, adds kernels for a device under the same names; without
it the PyTorch kernels below serve every device.
"""

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .cropped import masked_conv2d_cropped, masked_conv2d_cropped_backward
from .reference import gumbel_noise_ref

_LAYER = "str mask_type, int colours=3, int in_parts=1, int out_parts=1, int dilation=1"
_library = torch.library.Library("pixelsr", "DEF")
_library.define(f"masked_conv2d(Tensor x, Tensor weight, Tensor? bias, {_LAYER}) -> Tensor")
_library.define(
    f"masked_conv2d_backward(Tensor grad_out, Tensor x, Tensor weight, bool[3] needs, {_LAYER})"
    " -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "gumbel_noise_(Tensor(a!) out, int seed, int first_index, int first_position) -> ()"
)
_library.define(
    "run_plan_(Tensor program, Tensor weights, Tensor constants, Tensor(a!) storage, Tensor values,"
    " Tensor(b!) images, Tensor known_mask, Tensor unknown, Tensor last_and_stop,"
    " Tensor(c!) cursor, int seed, int first_index, float temperature, bool draw, int rows,"
    " int threads) -> ()"
)


@torch.library.impl(_library, "masked_conv2d", "CompositeExplicitAutograd")
def _masked_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, mask_type: str, *parts: int
) -> Tensor:
    return masked_conv2d_cropped(x, weight, bias, mask_type, *parts)


@torch.library.impl(_library, "masked_conv2d_backward", "CompositeExplicitAutograd")
def _masked_conv2d_backward(
    grad_out: Tensor,
    x: Tensor,
    weight: Tensor,
    needs: Sequence[bool],
    mask_type: str,
    colours: int = 3,
    in_parts: int = 1,
    out_parts: int = 1,
    dilation: int = 1,
    *,
    shapes_only: bool = False,
) -> tuple[Tensor, ...]:
    grads = masked_conv2d_cropped_backward(
        grad_out,
        x,
        weight,
        mask_type,
        colours,
        in_parts,
        out_parts,
        dilation,
        (needs[0], needs[1], needs[2]),
        shapes_only=shapes_only,
    )
    return tuple(grad_out.new_empty(0) if grad is None else grad for grad in grads)


@torch.library.register_fake("pixelsr::masked_conv2d", lib=_library)
def _masked_conv2d_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, mask_type: str, *parts: int
) -> Tensor:
    return masked_conv2d_cropped(x, weight, bias, mask_type, *parts, shapes_only=True)


@torch.library.register_fake("pixelsr::masked_conv2d_backward", lib=_library)
def _masked_conv2d_backward_fake(
    grad_out: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool], mask_type: str, *parts: int
) -> tuple[Tensor, ...]:
    return _masked_conv2d_backward(grad_out, x, weight, needs, mask_type, *parts, shapes_only=True)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, *ctx.layer = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    needs = list(ctx.needs_input_grad[:3])
    grads = torch.ops.pixelsr.masked_conv2d_backward(
        grad_out.contiguous(memory_format=_layout(x)), x, weight, needs, *ctx.layer
    )
    wanted = [grad if need else None for grad, need in zip(grads, needs, strict=True)]
    return (*wanted, *(None for _ in ctx.layer))


def _layout(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


torch.library.register_autograd(
    "pixelsr::masked_conv2d", _backward, setup_context=_setup_context, lib=_library
)


@torch.library.impl(_library, "gumbel_noise_", "CompositeExplicitAutograd")
def _gumbel_noise_(out: Tensor, seed: int, first_index: int, first_position: int) -> None:
    _check_noise(out)
    samples, positions, levels = out.shape
    out.copy_(gumbel_noise_ref(seed, first_index, samples, first_position, positions, levels))


@torch.library.register_fake("pixelsr::gumbel_noise_", lib=_library)
def _gumbel_noise_fake(out: Tensor, seed: int, first_index: int, first_position: int) -> None:
    _check_noise(out)


def _gumbel_noise_triton(out: Tensor, seed: int, first_index: int, first_position: int) -> None:
    from .kernels.noise import launch_gumbel_noise  # here, so that only a GPU imports Triton

    _check_noise(out)
    with torch.cuda.device(out.device):
        launch_gumbel_noise(out, seed, first_index, first_position)


def _check_noise(out: Tensor) -> None:
    if out.dtype != torch.float32 or out.dim() != 3:
        raise ValueError(
            "gumbel_noise_: out must be float32 [samples, positions, levels], "
            f"got {out.dtype} {list(out.shape)}"
        )


if importlib.util.find_spec("triton") and importlib.util.find_spec("pixelsr.kernels"):
    _library.impl("gumbel_noise_", _gumbel_noise_triton, "CUDA")


def _load_compiled() -> str | None:
    """Load the compiled kernels; the reason why not where there are none."""
    if os.environ.get("PIXELSR_NO_EXTENSION") == "1":
        return "PIXELSR_NO_EXTENSION=1"
    spec = importlib.util.find_spec("pixelsr._C")
    if spec is None or spec.origin is None:
        return "the C++ extension was not built (see CONTRIBUTING.md, or run `make venv`)"
    try:
        torch.ops.load_library(Path(spec.origin))
    except OSError as error:
        return f"the C++ extension did not load: {error}"
    return None


WHY_NOT_COMPILED: str | None = _load_compiled()
"""None where the C++ kernels serve the CPU; otherwise the reason why they do not."""

if WHY_NOT_COMPILED:
    logging.getLogger("pixelsr").debug(WHY_NOT_COMPILED)
