"""The size of the images that a saved model is for, which its config does not tell."""

from pathlib import Path
from typing import Any

from pixelsr.utils.strict_files import read_toml

from .base import LARGEST, PixelModel, find_model
from .prsr import PixelRecursiveSR

TRAINING = "training.toml"
SMALL_SIDE = 8
"""Of the small image, in pixels, where a model does not tell the size that it was trained at."""


def trained_size(model: str) -> int | None:
    """Side of the images that a model was trained on, in pixels, as its `training.toml` says.

    Args:
        model: a folder, or a bundled model's name.
    Returns:
        None where the model has no such file, or the file does not say.
    Raises:
        FileNotFoundError: no such model.
        ValueError: the file is not TOML, or its `size` is not a positive int, or beyond `LARGEST`.
    """
    path, options = trained_options(model)
    size = options.get("size")
    if size is None:
        return None
    if type(size) is not int or size < 1:
        raise ValueError(f"{path}: size must be a positive int, got {size!r}")
    if size > LARGEST:
        raise ValueError(f"{path}: size must be at most {LARGEST:,}, got {size:,}")
    return size


def trained_options(model: str) -> tuple[Path, dict[str, Any]]:
    """The path of a model's `training.toml`, and the options in it; none where there is no file.

    Args:
        model: a folder, or a bundled model's name.
    Raises:
        FileNotFoundError: no such model.
        ValueError: the file is not TOML.
    """
    path = find_model(model) / TRAINING
    return path, read_toml(path) if path.is_file() else {}


def drawn_side(model: str, network: PixelModel) -> int:
    """Side of the images that a model draws, in pixels: the trained one, or 8 small pixels.

    Raises:
        ValueError: it is no `PixelRecursiveSR` and does not tell its trained size.
    """
    side = trained_size(model)
    if side is not None:
        return side
    if isinstance(network, PixelRecursiveSR):
        return SMALL_SIDE * network.scale_factor
    raise ValueError(
        f"model {model} has no {TRAINING} that tells the size it was trained at: give --size"
    )


def small_side(model: str, network: PixelRecursiveSR) -> int:
    """Side of the small images that a model enlarges, in pixels.

    Raises:
        ValueError: the trained size is not a multiple of the scale_factor.
    """
    side = drawn_side(model, network)
    if side % network.scale_factor:
        raise ValueError(
            f"model {model} was trained at {side} pixels a side, by its {TRAINING}; "
            f"expected a multiple of its scale factor, {network.scale_factor}"
        )
    return side // network.scale_factor
