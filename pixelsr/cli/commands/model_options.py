"""The options of `pixelsr train` that choose the model and its sizes."""

from collections.abc import Callable
from typing import Any

import click

from pixelsr.config.models import (
    ConditioningNetworkConfig,
    Config,
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    PixelCNNConfig,
    RowLSTMConfig,
)

from .help import option_of
from .options import TEXT, count_option

PRIORS: dict[str, type[Config]] = {
    "GatedPixelCNN": GatedPixelCNNConfig,
    "PixelCNN": PixelCNNConfig,
    "RowLSTM": RowLSTMConfig,
    "DiagonalBiLSTM": DiagonalBiLSTMConfig,
}
DEFAULT_PRIOR = next(iter(PRIORS))
MODELS = ("PixelRecursiveSR", *PRIORS, "ConditioningNetwork")
OF_PRIOR = ("channels", "layers", "kernel_size", "first_kernel_size", "head_channels", "skip")
OF_CONDITIONING = {
    "conditioning_channels": "channels",
    "conditioning_blocks": "blocks",
    "scale_factor": "scale_factor",
}
OF_BOTH = ("colors", "levels")
NAMES = ("start", "model", "prior", *OF_PRIOR, *OF_CONDITIONING, *OF_BOTH)

_option = option_of("Model")


def _odd(context: click.Context, option: click.Parameter, size: int | None) -> int | None:
    if size is not None and size % 2 == 0:
        raise click.BadParameter(f"{size} is even, expected an odd number")
    return size


def _of_prior(field: str, help: str, **attributes: Any) -> Callable[..., Any]:
    """Return a positive option for a field of the configs of the priors."""
    return _size(
        "--" + field.replace("_", "-"), f"{help}  [default: {_defaults(field)}]", **attributes
    )


def _of_a(flag: str, field: str, help: str) -> Callable[..., Any]:
    """Return a positive option for a field of the config of the network A."""
    default = getattr(ConditioningNetworkConfig, field)
    return _size(flag, f"{help}  [default: {default}]")


def _size(flag: str, help: str, **attributes: Any) -> Callable[..., Any]:
    return count_option(flag, help=help, option=_option, **attributes)


def _defaults(field: str) -> str:
    """Return the default of the first prior, then the defaults of priors that differ from it."""
    of = {name: getattr(config, field, None) for name, config in PRIORS.items()}
    first = of[DEFAULT_PRIOR]
    others: dict[int, list[str]] = {}
    for name, value in of.items():
        if value not in (first, None):
            others.setdefault(value, []).append(name)
    parts = [f"of {_and(names)} {value}" for value, names in others.items()]
    return ", ".join([f"{first}", *parts])


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options named in `NAMES`; an option that is not given is None."""
    options = (
        _option(
            "--from",
            "start",
            metavar="MODEL",
            type=TEXT,
            help="Start with the weights of a model: a bundled one's name, or a folder.",
        ),
        _option(
            "--model",
            type=click.Choice(MODELS),
            help=f"{MODELS[0]} enlarges; the others are its parts, alone.  [default: {MODELS[0]}]",
        ),
        _option(
            "--prior",
            type=click.Choice(list(PRIORS)),
            help=f"B of {MODELS[0]}.  [default: {DEFAULT_PRIOR}]",
        ),
        _of_prior("channels", "Width of the prior."),
        _of_prior("layers", "Depth of the prior."),
        _of_prior("kernel_size", "Kernel size of the prior's layers; odd.", callback=_odd),
        _of_prior("first_kernel_size", "Kernel size of the first layer; odd.", callback=_odd),
        _of_prior("head_channels", "Channels between the prior's two output layers."),
        _option(
            "--skip/--no-skip",
            default=None,
            help="Connect each layer of a RowLSTM or DiagonalBiLSTM to the output.  "
            "[default: no-skip]",
        ),
        _of_a("--conditioning-channels", "channels", "Width of the network A."),
        _of_a("--conditioning-blocks", "blocks", "Residual blocks of the network A at each size."),
        _size(
            "--scale-factor",
            "Large side over small side; a power of two. RowLSTM and DiagonalBiLSTM see a small "
            "image where it is given.  "
            f"[default: {ConditioningNetworkConfig.scale_factor}, of priors none]",
        ),
        _of_prior("colors", "3, or 1 for gray images."),
        _of_prior("levels", "Intensities of a color, 2 to 256."),
    )
    for option in reversed(options):
        command = option(command)
    return command
