"""The registered operators `torch.ops.pixelsr.*`: schema, PyTorch kernel, fake, autograd.

The compiled library, where it was built, adds kernels for a device under the same names; without
it the PyTorch kernels below serve every device.
"""

import importlib.util
import logging
import os
from pathlib import Path

import torch
from torch import Tensor

from .cropped import masked_conv2d_cropped
from .reference import gumbel_noise_ref

_LAYER = "str mask_type, int colours=3, int in_parts=1, int out_parts=1, int dilation=1"
_library = torch.library.Library("pixelsr", "DEF")
_library.define(f"masked_conv2d(Tensor x, Tensor weight, Tensor? bias, {_LAYER}) -> Tensor")
_library.define(
    "gumbel_noise_(Tensor(a!) out, int seed, int first_index, int first_position) -> ()"
)
_library.define(
    "run_plan_(Tensor program, Tensor weights, Tensor constants, Tensor(a!) storage, Tensor values,"
    " Tensor(b!) images, Tensor known_mask, Tensor unknown, Tensor last_and_stop,"
    " Tensor(c!) cursor, int seed, int first_index, float temperature, bool draw, int first_col,"
    " int cols, int rows, int threads, int session) -> ()"
)
_library.define("instruction_set() -> str")
_library.define(
    "run_cells_(Tensor program, Tensor constants, Tensor(a!) storage, Tensor cells, Tensor places)"
    " -> ()"
)

for _name in ("run_plan_", "run_cells_"):  # they write into what they are given, and return nothing
    torch.library.register_fake(f"pixelsr::{_name}", lambda *arguments: None, lib=_library)


# Made of the library's operators, which bring their own gradients, fakes and memory formats.
_library.impl("masked_conv2d", masked_conv2d_cropped, "CompositeImplicitAutograd")


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
    path = os.environ.get("PIXELSR_EXTENSION") or (spec and spec.origin)
    if not path:
        return "the C++ extension was not built (see CONTRIBUTING.md, or run `make venv`)"
    try:
        torch.ops.load_library(Path(path))
    except OSError as error:
        return f"the C++ extension did not load: {error}"
    return None


WHY_NOT_COMPILED: str | None = _load_compiled()
"""None where the C++ kernels serve the CPU; otherwise the reason why they do not."""

if WHY_NOT_COMPILED:
    logging.getLogger("pixelsr").debug(WHY_NOT_COMPILED)
