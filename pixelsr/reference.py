"""Every operator in plain PyTorch, for any dtype and device: the definition of right."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr.masks import causal_mask
from pixelsr.output import Output


def masked_conv2d_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask_type: str,
    colours: int = 3,
    in_parts: int = 1,
    out_parts: int = 1,
    dilation: int = 1,
) -> Tensor:
    """``F.conv2d(x, weight * causal_mask(...), bias, padding="same")``."""
    mask = causal_mask(
        weight.shape[0],
        weight.shape[1],
        (weight.shape[2], weight.shape[3]),
        mask_type,
        colours=colours,
        in_parts=in_parts,
        out_parts=out_parts,
        device=weight.device,
    )
    padding = (dilation * (weight.shape[2] // 2), dilation * (weight.shape[3] // 2))
    return F.conv2d(x, weight * mask, bias, padding=padding, dilation=dilation)


def gate_ref(x: Tensor) -> Tensor:
    """``tanh(a) * sigmoid(b)``, of the two halves of the channels."""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


def nats_ref(logits: Tensor, images: Tensor) -> Tensor:
    """Cross-entropy, summed over the values of each image, ``[N]``, in float32 or float64."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    rows = logits.permute(0, 3, 4, 2, 1).flatten(0, 3)  # [N H W C, L], a view in channels_last
    targets = images.permute(0, 2, 3, 1).flatten().long()
    nats = F.cross_entropy(rows, targets, reduction="none")
    return nats.view(images.shape[0], math.prod(images.shape[1:])).sum(1)


def pixel_cross_entropy_ref(
    images: Tensor, prior: Output, conditioning: Output | None, scale: float
) -> Tensor:
    """Nats of A + B and, where there is A, of A / scale, ``[terms, N]``."""
    colours = images.shape[1]
    features = prior.features
    if prior.hidden_weight is not None:
        hidden = masked_conv2d_ref(features, prior.hidden_weight, prior.hidden_bias, "B", colours)
        features = F.relu(hidden)
    out = masked_conv2d_ref(features, prior.weight, prior.bias, "B", colours)
    logits = out.unflatten(1, (colours, -1)).transpose(1, 2)  # [N, L, C, H, W]
    if conditioning is None:
        return pixel_cross_entropy_with_logits_ref(logits, images, None, scale)
    alone = F.conv2d(conditioning.features, conditioning.weight, conditioning.bias)
    alone = alone.unflatten(1, (colours, -1)).transpose(1, 2)
    return pixel_cross_entropy_with_logits_ref(logits, images, alone, scale)


def pixel_cross_entropy_with_logits_ref(
    logits: Tensor, images: Tensor, conditioning: Tensor | None, scale: float
) -> Tensor:
    """Nats of A + B and, where there is A, of A / scale, ``[terms, N]``."""
    if conditioning is None:
        return nats_ref(logits, images)[None]
    terms = conditioning + logits, conditioning / scale
    return torch.stack([nats_ref(some, images) for some in terms])


_LOW = 0xFFFFFFFF
_ROUND_KEYS = (0x9E3779B9, 0xBB67AE85)
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)


def _mul_hi_lo(a: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of the 64-bit product of `a` (32 bits in an int64) and `multiplier`."""
    low, high = a & 0xFFFF, a >> 16
    t = low * multiplier  # below 2^48
    u = high * multiplier + (t >> 16)  # below 2^49
    return u >> 16, ((u & 0xFFFF) << 16) | (t & 0xFFFF)


def philox4x32_ref(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

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
    """Gumbel noise of `samples` consecutive pictures at `positions` consecutive positions.

    ``-log(-log(u))`` in float64, rounded to float32, ``u = ((word >> 9) + 0.5) * 2^-23``; the word
    of a level is word ``level % 4`` of Philox4x32-10 under the key (seed low, seed high) and the
    counter (sample low, sample high, position, level // 4).

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
    """Gumbel noise, float32, of 32-bit random words held in an int64 tensor."""
    uniform = ((words >> 9).double() + 0.5) * 2.0**-23  # exact in float32: never 0, never 1
    return (-(-uniform.log()).log()).float()
