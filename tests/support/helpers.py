"""The helpers that several test files share."""

import math

import pytest
import torch
from torch import nn


def _fan_in(name: str, parameter: torch.Tensor, module: nn.Module) -> int:
    """Return the number of values that one output sums; a bias has its weight's fan-in."""
    weight = getattr(module, "weight", parameter) if name.startswith("bias") else parameter
    if weight.dim() < 2:
        return 1
    transposed = isinstance(module, nn.ConvTranspose2d)
    channels = weight.shape[0] if transposed else weight.shape[1]
    return channels * math.prod(weight.shape[2:])


def slow(*values):
    """Mark a case of a parametrized test as slow; other cases check nearly the same."""
    return pytest.param(*values, marks=pytest.mark.slow)


def normal(*shape, dtype=torch.float64, seed=0):
    """Return numbers from N(0, 1), drawn in float64 whatever the dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def random_images(n, colors, height, width, levels=256, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, colors, height, width)
    return torch.randint(levels, shape, generator=generator, dtype=torch.uint8)


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter from N(0, 1/fan-in), in place; the same seed gives the same numbers.

    At default initialization, the past hardly matters to a deep network, so a wrong mask or a
    sampler that ignores the past would go unnoticed.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(noise / math.sqrt(_fan_in(name, parameter, module)))
    return model
