"""Conversions from images to a network's input features, and from its features to logits."""

import torch
from torch import Tensor

from pixelsr.config.models import check_level_count


def normalize_images(
    images: Tensor, colors: int, levels: int, dtype: torch.dtype, name: str = "images"
) -> Tensor:
    """Map intensities 0 .. levels - 1 to features in [-1, 1]: ``2 * images / (levels - 1) - 1``.

    Args:
        images: uint8 ``[N, colors, H, W]``.
        name: the name of the images in error messages.
    Returns:
        ``[N, colors, H, W]`` of `dtype`.
    Raises:
        ValueError: the rank, the dtype or the number of colors is wrong.
    """
    check_level_count(levels)
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != colors:
        raise ValueError(
            f"{name} must be uint8 [N, {colors}, H, W], got {images.dtype} {list(images.shape)}"
        )
    return images.to(dtype) * (2 / (levels - 1)) - 1


def to_logits(features: Tensor, colors: int, levels: int) -> Tensor:
    """View color-major ``[N, colors * levels, H, W]`` as logits ``[N, levels, colors, H, W]``.

    Equals ``features.view(N, colors, levels, H, W).transpose(1, 2)``.

    Raises:
        ValueError: the rank or the number of channels is wrong.
    """
    check_level_count(levels)
    if features.dim() != 4 or features.shape[1] != colors * levels:
        raise ValueError(
            f"to_logits takes [N, {colors} * {levels}, H, W], got {list(features.shape)}"
        )
    n, _, height, width = features.shape
    return features.view(n, colors, levels, height, width).transpose(1, 2)


def add_logits(prior: Tensor, conditioning: Tensor) -> Tensor:
    """Return the sum of the prior's and the conditioning network's logits, ``B(y) + A(x)``.

    Raises:
        ValueError: the shapes differ.
    """
    check_same_size(prior, conditioning)
    return conditioning + prior


def check_same_size(prior: Tensor, conditioning: Tensor) -> None:
    if conditioning.shape != prior.shape:
        raise ValueError(
            "upscaled low_res must have the size of the images, got logits of shape "
            f"{list(conditioning.shape)} and {list(prior.shape)}"
        )


def check_scale_factor(images: Tensor, features: Tensor) -> None:
    """Check that the upscaled conditioning features have the batch and image size of `images`.

    Raises:
        ValueError: they do not.
    """
    expected = [len(images), *images.shape[2:]]
    found = [len(features), *features.shape[2:]]
    if found != expected:
        raise ValueError(
            "upscaled low_res must have the number and the size of the images, "
            f"{expected}, got {found}"
        )
