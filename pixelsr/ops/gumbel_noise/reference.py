"""The reference implementation of Gumbel noise in plain PyTorch."""

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF
_ROUND_KEYS = (0x9E3779B9, 0xBB67AE85)
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)


def _mul_hi_lo(a: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Return the high and low 32 bits of ``a * multiplier``; `a` holds 32 bits in an int64."""
    low, high = a & 0xFFFF, a >> 16
    t = low * multiplier  # below 2^48
    u = high * multiplier + (t >> 16)  # below 2^49
    return u >> 16, ((u & 0xFFFF) << 16) | (t & 0xFFFF)


def philox4x32_ref(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Return random words of Philox4x32-10.

    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".

    Args:
        counter: int64 ``[..., 4]``, each word in [0, 2^32).
        key: two 32-bit words.
    Returns:
        int64 ``[..., 4]``, four random 32-bit words for each counter.
    """
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key
    for _ in range(10):
        hi0, lo0 = _mul_hi_lo(c0, _MULTIPLIERS[0])
        hi1, lo1 = _mul_hi_lo(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + _ROUND_KEYS[0]) & _LOW, (k1 + _ROUND_KEYS[1]) & _LOW
    return torch.stack((c0, c1, c2, c3), -1)


def gumbel_noise_ref(
    seed: int, first_index: int, samples: int, first_position: int, positions: int, levels: int
) -> Tensor:
    """Return Gumbel noise of `samples` consecutive images at `positions` consecutive positions.

    The noise is ``-log(-log(u))`` in float64, rounded to float32, with
    ``u = ((word >> 9) + 0.5) * 2^-23``. The word of a level is word ``level % 4`` of Philox4x32-10
    with the key (seed low, seed high) and the counter (sample low, sample high, position,
    level // 4).

    Returns:
        float32 ``[samples, positions, levels]`` on the CPU.
    """
    blocks = (levels + 3) // 4
    sample = first_index + torch.arange(samples, device="cpu").view(-1, 1, 1)
    position = first_position + torch.arange(positions, device="cpu").view(1, -1, 1)
    block = torch.arange(blocks, device="cpu").view(1, 1, -1)
    shape = (samples, positions, blocks)
    words = (sample & _LOW, (sample >> 32) & _LOW, position, block)
    counter = torch.stack([word.expand(shape) for word in words], -1)
    random = philox4x32_ref(counter, (seed & _LOW, (seed >> 32) & _LOW)).flatten(2)[..., :levels]
    return gumbel_of_words_ref(random)


def gumbel_of_words_ref(words: Tensor) -> Tensor:
    """Convert 32-bit random words in an int64 tensor to float32 Gumbel noise."""
    uniform = ((words >> 9).double() + 0.5) * 2.0**-23  # exact in float32: never 0, never 1
    return (-(-uniform.log()).log()).float()
