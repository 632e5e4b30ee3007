"""One seed, one picture: the noise is a pure function of seed, sample, position and level.

The generator is defined in `pixelsr.reference`; position = (row * W + column) * C + colour.
"""

import torch
from torch import Tensor

from .. import ops as _ops  # noqa: F401  registers torch.ops.pixelsr


def check_seed(seed: int) -> None:
    if type(seed) is not int or not 0 <= seed < 2**64:
        raise ValueError(f"seed must be an int from 0 to 2^64 - 1, got {seed!r}")


def gumbel_noise(
    seed: int,
    first_index: int,
    samples: int,
    first_position: int,
    positions: int,
    levels: int,
    device: torch.device,
) -> Tensor:
    """Gumbel noise, float32 ``[samples, positions, levels]``.

    Args:
        seed: 0 to 2^64 - 1.
        first_index: index of the first sample.
        samples, positions: how many, both consecutive.
        first_position: of a value in the picture, in raster order.
    """
    out = torch.empty(samples, positions, levels, device=device)
    signed = seed - 2**64 if seed >= 2**63 else seed
    torch.ops.pixelsr.gumbel_noise_(out, signed, first_index, first_position)
    return out


def draw(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """``argmax(logits / temperature + noise)`` over the last dimension, the lowest level on a tie.

    A temperature of 0 is the mode: no noise. Half-precision logits are summed in float32.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if temperature == 0:
        return logits.argmax(-1)
    return (logits / temperature + noise).argmax(-1)
