"""The models that the commands take: loaded, and of a kind that fits the command."""

import tomlkit
from tomlkit.exceptions import TOMLKitError

from ..models import ConditioningNetwork, PixelModel, PixelRecursiveSR
from ..models.base import find_model

TRAINING = "training.toml"
SMALL_SIDE = 8
"""Of the small picture, in pixels, where a model does not tell the size that it was trained at."""


def trained_size(model: str) -> int | None:
    """Side of the pictures that a model was trained on, in pixels, as its `training.toml` says.

    Args:
        model: a folder, or a bundled model's name.
    Returns:
        None where the model has no such file, or the file does not say.
    Raises:
        FileNotFoundError: no such model.
        ValueError: the file is not TOML, or its `size` is not a positive int.
    """
    path = find_model(model) / TRAINING
    if not path.is_file():
        return None
    try:
        size = tomlkit.parse(path.read_bytes()).unwrap().get("size")
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    if size is not None and (type(size) is not int or size < 1):
        raise ValueError(f"{path}: size must be a positive int, got {size!r}")
    return size


def drawn_side(model: str, network: PixelModel) -> int:
    """Side of the pictures that a model draws, in pixels: the trained one, or 8 small pixels.

    Raises:
        ValueError: it is no `PixelRecursiveSR` and does not tell its trained size.
    """
    side = trained_size(model)
    if side is not None:
        return side
    if isinstance(network, PixelRecursiveSR):
        return SMALL_SIDE * network.magnification
    raise ValueError(
        f"model {model} has no {TRAINING} that tells the size it was trained at: give --size"
    )


def small_side(model: str, network: PixelRecursiveSR) -> int:
    """Side of the small pictures that a model enlarges, in pixels.

    Raises:
        ValueError: the trained size is not a multiple of the magnification.
    """
    side = drawn_side(model, network)
    if side % network.magnification:
        raise ValueError(
            f"model {model} was trained at {side} pixels a side, by its {TRAINING}; "
            f"expected a multiple of its magnification, {network.magnification}"
        )
    return side // network.magnification


def load_enlarger(model: str) -> PixelRecursiveSR:
    """A model that enlarges photos, on the CPU.

    Raises:
        FileNotFoundError, ValueError: it cannot be loaded, is of another class, or does not draw
            256 levels of 1 or 3 colours.
    """
    network = PixelRecursiveSR.from_pretrained(model)
    if network.levels != 256 or network.colours not in (1, 3):
        raise ValueError(
            f"model {model} draws {network.levels} levels of {network.colours} colours; "
            "photos need 256 levels of 1 or 3 colours"
        )
    return network


def load_prior(model: str) -> PixelModel:
    """A model that draws pictures from nothing, on the CPU.

    Raises:
        FileNotFoundError, ValueError: it cannot be loaded, needs a small picture, or does not draw
            1 or 3 colours.
    """
    network = PixelModel.from_pretrained(model)
    if isinstance(network, PixelRecursiveSR):
        raise ValueError(
            f"model {model} needs small pictures, as every PixelRecursiveSR: use `pixelsr enlarge`"
        )
    return _checked(model, network)


def load_completer(model: str) -> PixelModel:
    """A model that sees what is drawn already, on the CPU.

    Raises:
        FileNotFoundError, ValueError: it cannot be loaded, sees no drawn pixel, or does not draw 1
            or 3 colours.
    """
    return _checked(model, PixelModel.from_pretrained(model))


def _checked(model: str, network: PixelModel) -> PixelModel:
    if isinstance(network, ConditioningNetwork):
        raise ValueError(
            f"model {model} is a ConditioningNetwork, which sees no pixel drawn before; "
            "expected a prior, such as a GatedPixelCNN"
        )
    if network.colours not in (1, 3):
        raise ValueError(f"model {model} draws {network.colours} colours; pictures need 1 or 3")
    return network
