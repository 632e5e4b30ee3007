"""The models of the commands, loaded and checked."""

from pixelsr.config.choices import BINARIZATIONS
from pixelsr.models import ConditioningNetwork, PixelModel, PixelRecursiveSR
from pixelsr.models.sizes import trained_options


def load_enlarger(model: str) -> PixelRecursiveSR:
    """Load a model that enlarges photos, on the CPU.

    Raises:
        FileNotFoundError, ValueError: it cannot be loaded, is of another class, or does not draw
            256 levels of 1 or 3 colors.
    """
    network = PixelRecursiveSR.from_pretrained(model)
    if network.levels != 256 or network.colors not in (1, 3):
        raise ValueError(
            f"model {model} draws {network.levels} levels of {network.colors} colors; "
            "photos need 256 levels of 1 or 3 colors"
        )
    return network


def load_prior(model: str) -> PixelModel:
    """Load a model that draws images without an input, on the CPU.

    Raises:
        FileNotFoundError, ValueError: it cannot be loaded, needs a small image, or does not draw
            1 or 3 colors.
    """
    network = PixelModel.from_pretrained(model)
    if isinstance(network, PixelRecursiveSR):
        raise ValueError(
            f"model {model} needs small images, as every PixelRecursiveSR: use `pixelsr enlarge`"
        )
    return _checked(model, network)


def load_completer(model: str) -> PixelModel:
    """Load a model that sees the pixels drawn so far, on the CPU.

    Raises:
        FileNotFoundError, ValueError: it cannot be loaded, sees no drawn pixel, or does not draw 1
            or 3 colors.
    """
    return _checked(model, PixelModel.from_pretrained(model))


def trained_binarize(model: str) -> str | None:
    """Return how the training images of a model were binarized, from its `training.toml`.

    Returns:
        None if they were not, or if the model has no such file.
    Raises:
        FileNotFoundError, ValueError: as `trained_options`; or the file names no binarization.
    """
    path, options = trained_options(model)
    choice: str | None = options.get("binarize")
    if choice not in (None, *BINARIZATIONS):
        raise ValueError(f"{path}: binarize must be one of {list(BINARIZATIONS)}, got {choice!r}")
    return choice


def _checked(model: str, network: PixelModel) -> PixelModel:
    if isinstance(network, ConditioningNetwork):
        raise ValueError(
            f"model {model} is a ConditioningNetwork, which sees no pixel drawn before; "
            "expected a prior, such as a GatedPixelCNN"
        )
    if network.colors not in (1, 3):
        raise ValueError(f"model {model} draws {network.colors} colors; images need 1 or 3")
    return network
