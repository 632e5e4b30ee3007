"""The model that `pixelsr train` is asked for."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import click

from pixelsr.models import (
    ConditioningNetwork,
    ConditioningNetworkConfig,
    DiagonalBiLSTM,
    GatedPixelCNN,
    PixelCNN,
    PixelModel,
    PixelRecursiveSR,
    PixelRNN,
    RowLSTM,
)
from pixelsr.models.base import outline_of
from pixelsr.utils.system import available_memory, in_gib

from .help import option_of
from .options import TEXT

PRIORS: dict[str, type[PixelModel]] = {
    "GatedPixelCNN": GatedPixelCNN,
    "PixelCNN": PixelCNN,
    "RowLSTM": RowLSTM,
    "DiagonalBiLSTM": DiagonalBiLSTM,
}
MODELS = ("PixelRecursiveSR", *PRIORS, "ConditioningNetwork")
OF_PRIOR = ("channels", "layers", "kernel_size", "first_kernel_size", "head_channels", "skip")
OF_CONDITIONING = {
    "conditioning_channels": "channels",
    "conditioning_blocks": "blocks",
    "scale_factor": "scale_factor",
}
OF_BOTH = ("colors", "levels")
NAMES = ("start", "model", "prior", *OF_PRIOR, *OF_CONDITIONING, *OF_BOTH)

_BYTES_OF_PARAMETER = 20
"""In training: the weight, its gradient, its average and two moments, in float32."""

_option = option_of("Model")


def _odd(context: click.Context, option: click.Parameter, size: int | None) -> int | None:
    if size is not None and size % 2 == 0:
        raise click.BadParameter(f"{size} is even, expected an odd number")
    return size


def _of_prior(field: str, help: str, **attributes: Any) -> Callable[..., Any]:
    """An option that is a field of the priors' configs, and positive."""
    return _size(
        "--" + field.replace("_", "-"), f"{help}  [default: {_defaults(field)}]", **attributes
    )


def _of_a(flag: str, field: str, help: str) -> Callable[..., Any]:
    """An option that is a field of the network A's config, and positive."""
    default = getattr(ConditioningNetworkConfig, field)
    return _size(flag, f"{help}  [default: {default}]")


def _size(flag: str, help: str, **attributes: Any) -> Callable[..., Any]:
    return _option(flag, metavar="N", type=click.IntRange(min=1), help=help, **attributes)


def _defaults(field: str) -> str:
    """Those of the priors that have the field: that of the first, then where another differs."""
    of = {name: getattr(kind.Config, field, None) for name, kind in PRIORS.items()}
    first = of[GatedPixelCNN.__name__]
    others: dict[int, list[str]] = {}
    for name, value in of.items():
        if value not in (first, None):
            others.setdefault(value, []).append(name)
    parts = [f"of {_and(names)} {value}" for value, names in others.items()]
    return ", ".join([f"{first}", *parts])


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by the names in `NAMES`, each None where it is not given."""
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
            help=f"B of {MODELS[0]}.  [default: {GatedPixelCNN.__name__}]",
        ),
        _of_prior("channels", "Width of the prior."),
        _of_prior("layers", "Depth of the prior."),
        _of_prior("kernel_size", "Of the prior's layers; odd.", callback=_odd),
        _of_prior("first_kernel_size", "Of the prior's first layer; odd.", callback=_odd),
        _of_prior("head_channels", "Between the prior's two output layers."),
        _option(
            "--skip/--no-skip",
            default=None,
            help="Of RowLSTM and DiagonalBiLSTM: connect each layer to the output.  "
            "[default: no-skip]",
        ),
        _of_a("--conditioning-channels", "channels", "Width of the network A."),
        _of_a("--conditioning-blocks", "blocks", "Its residual blocks at each size."),
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
        if issubclass(PRIORS[name], PixelRNN) and "scale_factor" in conditioning:
            prior["scale_factor"] = conditioning.pop("scale_factor")
        _refuse(conditioning, f"--model {name} has no conditioning network")
        _refuse([key for key in given if key == "prior"], f"--model {name} is a prior itself")
        return _make_prior(name, prior | both)
    if name == "ConditioningNetwork":
        _refuse(
            [key for key in given if key in (*OF_PRIOR, "prior")], f"--model {name} has no prior"
        )
        return ConditioningNetwork(**a)
    chosen = given.get("prior", GatedPixelCNN.__name__)
    return PixelRecursiveSR(_make_prior(chosen, prior | both), ConditioningNetwork(**a))


def check_training_memory(options: Mapping[str, Any]) -> None:
    """Refuse a model whose training does not fit the memory, before any of it is taken.

    Raises:
        ValueError: it does not; or as `make_model`.
    """
    if options.get("start") is not None:
        return
    outline = outline_of(lambda: make_model(options))
    count = sum(parameter.numel() for parameter in outline.parameters())
    needed, free = count * _BYTES_OF_PARAMETER, available_memory()
    if free is not None and needed > free:
        raise ValueError(
            f"training a model of {count:,} parameters needs {in_gib(needed)} of memory, "
            f"and {in_gib(free)} are free; choose fewer channels or layers"
        )


def _make_prior(name: str, options: Mapping[str, Any]) -> PixelModel:
    kind = PRIORS[name]
    foreign = [key for key in options if not hasattr(kind.Config, key)]
    _refuse(foreign, f"{name} has no such option")
    return kind(**options)


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
    rest = {key: prior[key] for key in (*OF_PRIOR, *OF_BOTH) if key in prior}
    return {
        "model": name,
        "prior": prior["class"],
        **_conditioning(description["conditioning"]),
        **rest,
    }


def _conditioning(description: Mapping[str, Any]) -> dict[str, Any]:
    own = {flag: description[field] for flag, field in OF_CONDITIONING.items()}
    return own | {key: description[key] for key in OF_BOTH}
