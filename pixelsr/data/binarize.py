"""Binarization of gray images for models of 2 levels, by a method chosen by name."""

import torch
from torch import Tensor

from pixelsr.config.choices import BINARIZATIONS
from pixelsr.ops.gumbel_noise.reference import philox4x32_ref

from .downsample import check_bytes

SEED = 0
"""The seed of "bernoulli": one fixed binarization, independent of the seed of a run."""
_CHUNK = 100  # images whose random words are in memory at once
_LOW = 0xFFFFFFFF


def binarized(images: Tensor, levels: int, choice: str | None) -> Tensor:
    """Return the images of a data set, binarized if the model has 2 levels.

    Args:
        images: uint8 ``[N, C, H, W]``, intensities of 8 bits.
        levels: number of levels of the model.
        choice: "threshold", white from 128 on (applied later, by `to_levels`), or "bernoulli",
            each value of image k white with probability intensity / 255 (`binarize` with `SEED`).
            None for images that are already black and white, which are never changed.
    Returns:
        `images`, or with "bernoulli" uint8 of their shape, 0 or 255, on the CPU.
    Raises:
        ValueError: the images are gray, the model has 2 levels and there is no choice; or
            `check_binarize` rejects the choice.
    """
    check_binarize(levels, choice)
    if levels != 2 or _is_black_and_white(images):
        return images
    if choice is None:
        raise ValueError(
            "the model has 2 levels, but these images hold gray: set binarize (--binarize) to "
            "threshold (white from 128 on) or to bernoulli (each value white with probability "
            "intensity / 255)"
        )
    return images if choice == "threshold" else binarize(images, SEED)


def check_binarize(levels: int, choice: str | None) -> None:
    """Check that a choice is known and applies to a model with this number of levels.

    Raises:
        ValueError: the choice is unknown, or `levels` is not 2.
    """
    if choice is None:
        return
    if choice not in BINARIZATIONS:
        raise ValueError(f"binarize must be one of {list(BINARIZATIONS)}, got {choice!r}")
    if levels != 2:
        raise ValueError(
            f"--binarize {choice} is for models of 2 levels, and this one has {levels}"
        )


def describe_levels(levels: int, choice: str | None) -> str | None:
    """Return a description of the quantization, which bits depend on; None for 256 levels."""
    if levels == 256:
        return None
    if levels > 2:
        return f"quantized to {levels} levels"
    return "black and white" if choice is None else f"binarized by {choice}"


def _is_black_and_white(images: Tensor) -> bool:
    return all(bool(((part == 0) | (part == 255)).all()) for part in images.split(_CHUNK))


def binarize(images: Tensor, seed: int = 0, first_index: int = 0) -> Tensor:
    """Make each value white with probability intensity / 255, else black, reproducibly.

    Value p of image k is 255 if ``word * 255 < intensity * 2^32``, else 0, where word is word
    ``p % 4`` of Philox4x32-10 with the key (seed low, seed high) and the counter (k low, k high,
    ``p // 4``, 0). The arithmetic is in integers, so the result is the same on every machine.
    Black stays black and white stays white.

    Args:
        images: uint8 ``[N, C, H, W]``.
        seed: 0 to 2^64 - 1.
        first_index: k of the first image; every index has its own random words.
    Returns:
        uint8 ``[N, C, H, W]``, 0 or 255, on the CPU.
    Raises:
        ValueError: the dtype or rank is wrong, or the seed or the index is out of range.
    """
    check_bytes(images)
    for name, value, limit in (("seed", seed, 64), ("first_index", first_index, 62)):
        if type(value) is not int or not 0 <= value < 2**limit:
            raise ValueError(f"{name} must be an int from 0 to 2^{limit} - 1, got {value!r}")
    parts = images.cpu().split(_CHUNK)
    firsts = range(first_index, first_index + len(images), _CHUNK)
    drawn = [_draw(part, seed, first) for part, first in zip(parts, firsts, strict=False)]
    return torch.cat(drawn) if drawn else images.cpu()


def _draw(images: Tensor, seed: int, first_index: int) -> Tensor:
    values = images[0].numel()
    index = (first_index + torch.arange(len(images), device="cpu"))[:, None]
    block = torch.arange((values + 3) // 4, device="cpu")
    words = (index & _LOW, index >> 32, block, torch.zeros_like(block))
    counter = torch.stack([word.expand(len(images), len(block)) for word in words], -1)
    random = philox4x32_ref(counter, (seed & _LOW, seed >> 32)).flatten(1)[:, :values]
    white = random * 255 < images.flatten(1).long() << 32
    return (255 * white.to(torch.uint8)).view(images.shape)
