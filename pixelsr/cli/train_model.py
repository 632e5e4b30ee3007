"""The model of `pixelsr train`."""

from collections.abc import Collection, Mapping
from typing import Any

from pixelsr import models
from pixelsr.config.models import PixelRNNConfig
from pixelsr.models import ConditioningNetwork, PixelModel, PixelRecursiveSR
from pixelsr.models.base import outline_of
from pixelsr.utils.system import available_memory, in_gib

from .commands.model_options import DEFAULT_PRIOR, OF_BOTH, OF_CONDITIONING, OF_PRIOR, PRIORS

_BYTES_OF_PARAMETER = 20
"""Bytes of a parameter in training: weight, gradient, average and two moments in float32."""


def make_model(options: Mapping[str, Any]) -> PixelModel:
    """Return a model of the given sizes; sizes that are None are the papers'.

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
        if issubclass(PRIORS[name], PixelRNNConfig) and "scale_factor" in conditioning:
            prior["scale_factor"] = conditioning.pop("scale_factor")
        _refuse(conditioning, f"--model {name} has no conditioning network")
        _refuse([key for key in given if key == "prior"], f"--model {name} is a prior itself")
        return _make_prior(name, prior | both)
    if name == "ConditioningNetwork":
        _refuse(
            [key for key in given if key in (*OF_PRIOR, "prior")], f"--model {name} has no prior"
        )
        return ConditioningNetwork(**a)
    chosen = given.get("prior", DEFAULT_PRIOR)
    return PixelRecursiveSR(_make_prior(chosen, prior | both), ConditioningNetwork(**a))


def check_training_memory(options: Mapping[str, Any]) -> None:
    """Refuse a model whose training does not fit the memory, before any is allocated.

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
    foreign = [key for key in options if not hasattr(PRIORS[name], key)]
    _refuse(foreign, f"{name} has no such option")
    prior: PixelModel = getattr(models, name)(**options)
    return prior


def _refuse(given: Collection[str], reason: str) -> None:
    for name in given:
        raise ValueError(f"{reason}: --{name.replace('_', '-')} has no place here")


def describe(model: PixelModel) -> dict[str, Any]:
    """Return the options, named as in `NAMES`, that make such a model."""
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
