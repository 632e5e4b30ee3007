"""The image size that a saved model was trained at, which its config does not contain."""

from pathlib import Path
from typing import Any

from pixelsr.config.models import LARGEST
from pixelsr.config.training import TRAINING
from pixelsr.utils.toml_file import read_toml

from .base import PixelModel, find_model
from .prsr import PixelRecursiveSR

SMALL_SIDE = 8
"""The default side of the small image, in pixels, for a model without a known training size."""


def trained_size(model: str) -> int | None:
    """Return the side in pixels of the images a model was trained on, from its `training.toml`.

    Args:
        model: a folder, or a bundled model's name.
    Returns:
        The side, or None if there is no such file or no `size` in it.
    Raises:
        FileNotFoundError: there is no such model.
        ValueError: the file is not TOML, or its `size` is not a positive int or exceeds `LARGEST`.
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
    """Return the path of a model's `training.toml` and its options, or {} if there is no file.

    Args:
        model: a folder, or a bundled model's name.
    Raises:
        FileNotFoundError: there is no such model.
        ValueError: the file is not TOML.
    """
    path = find_model(model) / TRAINING
    return path, read_toml(path) if path.is_file() else {}


def drawn_side(model: str, network: PixelModel) -> int:
    """Return the side in pixels of the images that a model draws.

    This is the training size if it is known, otherwise `SMALL_SIDE` times the scale factor.

    Raises:
        ValueError: the training size is unknown and the model is not a `PixelRecursiveSR`.
    """
    side = trained_size(model)
    if side is not None:
        return side
    if isinstance(network, PixelRecursiveSR):
        return SMALL_SIDE * network.scale_factor
    raise ValueError(
        f"model {model} has no {TRAINING} with the size it was trained at: give --size"
    )


def small_side(model: str, network: PixelRecursiveSR) -> int:
    """Return the side in pixels of the small images that a model enlarges.

    Raises:
        ValueError: the training size is not a multiple of the scale factor.
    """
    side = drawn_side(model, network)
    if side % network.scale_factor:
        raise ValueError(
            f"model {model} was trained at {side} pixels a side, by its {TRAINING}; "
            f"expected a multiple of its scale factor, {network.scale_factor}"
        )
    return side // network.scale_factor
