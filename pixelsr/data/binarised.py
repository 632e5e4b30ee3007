"""Grey pictures as black and white ones, each pixel drawn once."""

import torch
from torch import Tensor

from ..reference import philox4x32_ref

_CHUNK = 100  # pictures whose words are in memory at once
_LOW = 0xFFFFFFFF


def binarise(images: Tensor, seed: int = 0, first_index: int = 0) -> Tensor:
    """Each value white with probability intensity / 255, else black: a fixed binarisation.

    Value p of picture k is 255 where ``word * 255 < intensity * 2^32``, else 0; the word is word
    ``p % 4`` of Philox4x32-10 under the key (seed low, seed high) and the counter (k low, k high,
    ``p // 4``, 0). In whole numbers, hence the same on every machine: black stays black, white
    stays white.

    Args:
        images: uint8 ``[N, C, H, W]``.
        seed: 0 to 2^64 - 1.
        first_index: k of the first picture; pictures of other indices have words of their own.
    Returns:
        uint8 ``[N, C, H, W]``, 0 or 255, on the CPU.
    Raises:
        ValueError: another dtype, or a seed or an index out of range.
    """
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise ValueError(
            f"images must be uint8 [N, C, H, W], got {images.dtype} {list(images.shape)}"
        )
    for name, value, limit in (("seed", seed, 64), ("first_index", first_index, 62)):
        if type(value) is not int or not 0 <= value < 2**limit:
            raise ValueError(f"{name} must be an int from 0 to 2^{limit} - 1, got {value!r}")
    parts = images.cpu().split(_CHUNK)
    firsts = range(first_index, first_index + len(images), _CHUNK)
    drawn = [_draw(part, seed, first) for part, first in zip(parts, firsts, strict=False)]
    return torch.cat(drawn) if drawn else images.cpu()


def _draw(images: Tensor, seed: int, first_index: int) -> Tensor:
    values = images[0].numel()
    index = (first_index + torch.arange(len(images)))[:, None]
    block = torch.arange((values + 3) // 4)
    words = (index & _LOW, index >> 32, block, torch.zeros_like(block))
    counter = torch.stack([word.expand(len(images), len(block)) for word in words], -1)
    random = philox4x32_ref(counter, (seed & _LOW, seed >> 32)).flatten(1)[:, :values]
    white = random * 255 < images.flatten(1).long() << 32
    return (255 * white.to(torch.uint8)).view(images.shape)
