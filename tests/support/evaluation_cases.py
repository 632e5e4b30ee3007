"""A random enlarger and noise images, for tests of evaluations."""

import torch

import pixelsr
from tests.support.command_cases import tiny
from tests.support.helpers import randomize


def noise(count: int, side: int = 8, colors: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, colors, side, side)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def model(**options: int) -> pixelsr.PixelRecursiveSR:
    """Return a model for which the past matters, in float64 so that batching flips no draw."""
    return randomize(tiny(**options)).double()
