"""The Gumbel noise, a pure function of seed, sample index, position and level.

`pixelsr.ops.gumbel_noise.reference` defines the generator;
position = (row * W + column) * C + color.
"""

import math
import numbers
import sys
from typing import Any

import torch
from torch import Tensor

from pixelsr import ops as _ops  # noqa: F401  registers torch.ops.pixelsr

MIN_TEMPERATURE = 1e-30
"""The smallest positive temperature; below it, scores may overflow, and infinities give NaN."""


def check_seed(seed: int) -> None:
    if type(seed) is not int or not 0 <= seed < 2**64:
        raise ValueError(f"seed must be an int from 0 to 2^64 - 1, got {seed!r}")


def check_temperature(temperature: Any) -> float:
    """Return the temperature as a float, or raise an error if it is invalid."""
    is_real = isinstance(temperature, numbers.Real) and not isinstance(temperature, bool)
    if not is_real:
        raise TypeError(f"temperature must be a real number, got {temperature!r}")
    if not 0 <= temperature <= sys.float_info.max:
        raise ValueError(f"temperature must be 0 or more and finite, got {temperature!r}")
    if 0 < temperature < MIN_TEMPERATURE:
        raise ValueError(
            f"temperature {temperature!r} is too small to divide by, "
            f"expected at least {MIN_TEMPERATURE}, or 0 for the mode"
        )
    return float(temperature)


def gumbel_noise(
    seed: int,
    first_index: int,
    samples: int,
    first_position: int,
    positions: int,
    levels: int,
    device: torch.device,
) -> Tensor:
    """Return Gumbel noise, float32 ``[samples, positions, levels]``.

    Args:
        seed: 0 to 2^64 - 1.
        first_index: index of the first sample.
        samples, positions: numbers of consecutive samples and of consecutive positions.
        first_position: the first position, in raster order.
    """
    out = torch.empty(samples, positions, levels, dtype=torch.float32, device=device)
    torch.ops.pixelsr.gumbel_noise_(out, signed(seed), first_index, first_position)
    return out


def signed(seed: int) -> int:
    """Return the int64 that has the same 64 bits as an unsigned seed."""
    return seed - 2**64 if seed >= 2**63 else seed


def draw(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Return ``argmax(logits / temperature + noise)`` over the last dimension.

    The lowest level wins a tie. Half-precision logits are converted to float32. The temperature
    must be positive: see `mode` for 0. A level whose logit is -inf is drawn only if all levels are
    -inf.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    allowed = logits > -math.inf  # -inf / temperature is NaN if float32 rounds it to infinity
    scores = torch.where(allowed, logits / temperature + noise, -math.inf)
    # With a tiny temperature, the scores of finite logits may all be -inf too.
    return torch.where(
        scores.amax(-1) > -math.inf, scores.argmax(-1), allowed.to(torch.uint8).argmax(-1)
    )


def mode(logits: Tensor) -> Tensor:
    """Return the most likely level, the limit of `draw` at temperature 0; the lowest on a tie."""
    return logits.argmax(-1)
