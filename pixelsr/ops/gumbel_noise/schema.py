"""The operator `gumbel_noise_`, which fills a tensor with Gumbel noise in place."""

import torch
from torch import Tensor

from ..registry import HAS_TRITON, LIBRARY, on_its_gpu
from .reference import gumbel_noise_ref

LIBRARY.define("gumbel_noise_(Tensor(a!) out, int seed, int first_index, int first_position) -> ()")


@torch.library.impl(LIBRARY, "gumbel_noise_", "CompositeExplicitAutograd")
def _gumbel_noise_(out: Tensor, seed: int, first_index: int, first_position: int) -> None:
    _check_noise(out)
    samples, positions, levels = out.shape
    out.copy_(gumbel_noise_ref(seed, first_index, samples, first_position, positions, levels))


@torch.library.register_fake("pixelsr::gumbel_noise_", lib=LIBRARY)
def _gumbel_noise_fake(out: Tensor, seed: int, first_index: int, first_position: int) -> None:
    _check_noise(out)


def _gumbel_noise_triton(out: Tensor, seed: int, first_index: int, first_position: int) -> None:
    from pixelsr.kernels.gumbel_noise import launch_gumbel_noise

    _check_noise(out)
    launch_gumbel_noise(out, seed, first_index, first_position)


def _check_noise(out: Tensor) -> None:
    if out.dtype != torch.float32 or out.dim() != 3:
        raise ValueError(
            "gumbel_noise_: out must be float32 [samples, positions, levels], "
            f"got {out.dtype} {list(out.shape)}"
        )


if HAS_TRITON:
    LIBRARY.impl("gumbel_noise_", on_its_gpu(_gumbel_noise_triton), "CUDA")
