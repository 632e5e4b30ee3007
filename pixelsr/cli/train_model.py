"""The model that `pixelsr train` is asked for."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import click

from ..models import (
    ConditioningNetwork,
    ConditioningNetworkConfig,
    GatedPixelCNN,
    GatedPixelCNNConfig,
    PixelCNN,
    PixelCNNConfig,
    PixelModel,
    PixelRecursiveSR,
)
from .grouped import option_of

PRIORS: dict[str, type[PixelModel]] = {"GatedPixelCNN": GatedPixelCNN, "PixelCNN": PixelCNN}
MODELS = ("PixelRecursiveSR", *PRIORS, "ConditioningNetwork")
OF_PRIOR = ("channels", "layers", "kernel_size", "first_kernel_size", "head_channels")
OF_CONDITIONING = {
    "conditioning_channels": "channels",
    "conditioning_blocks": "blocks",
    "magnification": "magnification",
}
OF_BOTH = ("colours", "levels")
NAMES = ("start", "model", "prior", *OF_PRIOR, *OF_CONDITIONING, *OF_BOTH)

_option = option_of("Model")


def _odd(context: click.Context, option: click.Parameter, size: int | None) -> int | None:
    if size is not None and size % 2 == 0:
        raise click.BadParameter(f"{size} is even, expected an odd number")
    return size


def _size(
    field: str, help: str, config: type[Any], flag: str | None = None, **attributes: Any
) -> Callable[..., Any]:
    """An option that is a field of a config, and positive."""
    default = getattr(config, field)
    shown = f"{default}"
    if config is GatedPixelCNNConfig and getattr(PixelCNNConfig, field) != default:
        shown += f", of PixelCNN {getattr(PixelCNNConfig, field)}"
    return _option(
        flag or "--" + field.replace("_", "-"),
        metavar="N",
        type=click.IntRange(min=1),
        help=f"{help}  [default: {shown}]",
        **attributes,
    )


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by the names in `NAMES`, each None where it is not given."""
    gated, small = GatedPixelCNNConfig, ConditioningNetworkConfig
    options = (
        _option(
            "--from",
            "start",
            metavar="MODEL",
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
            help=f"B of {MODELS[0]}.  [default: {GatedPixelCNN.__name__}]",
        ),
        _size("channels", "Width of the prior.", gated),
        _size("layers", "Depth of the prior.", gated),
        _size("kernel_size", "Of the prior's layers; odd.", gated, callback=_odd),
        _size("first_kernel_size", "Of the prior's first layer; odd.", gated, callback=_odd),
        _size("head_channels", "Between the prior's two output layers.", gated),
        _size("channels", "Width of the network A.", small, "--conditioning-channels"),
        _size("blocks", "Its residual blocks at each size.", small, "--conditioning-blocks"),
        _size("magnification", "Large side over small side; a power of two.", small),
        _size("colours", "3, or 1 for grey pictures.", gated),
        _size("levels", "Intensities of a colour, 2 to 256.", gated),
    )
    for option in reversed(options):
        command = option(command)
    return command


def make_model(options: Mapping[str, Any]) -> PixelModel:
    """A model of the given sizes; what is None is as in the papers.

    Args:
        options: by `NAMES`.
    Raises:
        ValueError: an option that the model does not have, or sizes that it refuses.
        FileNotFoundError: no model to start from.
    """
    given = {name: value for name, value in options.items() if value is not None}
    start, name = given.pop("start", None), given.pop("model", None)
    if start is not None:
        _refuse([*given, *(["model"] if name else [])], f"--from {start} brings all sizes with it")
        return PixelModel.from_pretrained(start)
    both = {key: given[key] for key in OF_BOTH if key in given}
    prior = {key: given[key] for key in OF_PRIOR if key in given}
    conditioning = {key: given[key] for key in OF_CONDITIONING if key in given}
    a = {OF_CONDITIONING[key]: value for key, value in conditioning.items()} | both
    if name in PRIORS:
        _refuse(conditioning, f"--model {name} has no conditioning network")
        _refuse([key for key in given if key == "prior"], f"--model {name} is a prior itself")
        return PRIORS[name](**prior, **both)
    if name == "ConditioningNetwork":
        _refuse(
            [key for key in given if key in (*OF_PRIOR, "prior")], f"--model {name} has no prior"
        )
        return ConditioningNetwork(**a)
    chosen = PRIORS[given.get("prior", GatedPixelCNN.__name__)]
    return PixelRecursiveSR(chosen(**prior, **both), ConditioningNetwork(**a))


def _refuse(given: Collection[str], reason: str) -> None:
    for name in given:
        raise ValueError(f"{reason}: --{name.replace('_', '-')} has no place here")


def describe(model: PixelModel) -> dict[str, Any]:
    """The options that make such a model, by `NAMES`."""
    description = model.describe()
    name = description.pop("class")
    if name == "ConditioningNetwork":
        return {"model": name, **_conditioning(description)}
    if name in PRIORS:
        return {"model": name, **description}
    prior = description["prior"]
    rest = {key: value for key, value in prior.items() if key != "class"}
    return {
        "model": name,
        "prior": prior["class"],
        **_conditioning(description["conditioning"]),
        **rest,
    }


def _conditioning(description: Mapping[str, Any]) -> dict[str, Any]:
    own = {flag: description[field] for flag, field in OF_CONDITIONING.items()}
    return own | {key: description[key] for key in OF_BOTH}
