"""The diagnosis of an interface that does not fit its network."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pixelsr.config.models import MAX_LEVELS
from pixelsr.errors import PlanError
from pixelsr.utils.modules import can_copy, copy_model

from .interface import Interface, name_of
from .presets import INPUTS, LOGARITHMS, OUTPUTS, suitable, unsuitable

NOT_DIAGNOSED = (PlanError, torch.OutOfMemoryError)
"""The errors that say nothing about the presets."""


@torch.no_grad()
def would_fit(net: nn.Module, own: Interface, images: Tensor) -> str:
    """Return which presets would fit, such as "inputs='codes' would fit"; "" if none would.

    Presets that differ in one place are preferred; else both may differ, or the number of levels.
    """
    fitting: list[tuple[Any, Any]] = []
    for inputs in _with(own.inputs, suitable(INPUTS, own.colors, own.levels)):
        returned = _returned(net, dataclasses.replace(own, inputs=inputs), images)
        for outputs in _with(own.outputs, suitable(OUTPUTS, own.colors, own.levels)):
            if _fits(dataclasses.replace(own, outputs=outputs), returned, images):
                fitting.append((inputs, outputs))
    one_inputs = [inputs for inputs, outputs in fitting if outputs == own.outputs]
    one_outputs = [outputs for inputs, outputs in fitting if inputs == own.inputs]
    if one_inputs or one_outputs:
        choices = [_choice("inputs", one_inputs), _choice("outputs", one_outputs)]
        return f"{' or '.join(filter(None, choices))} would fit"
    if fitting:
        all_inputs, all_outputs = zip(*fitting, strict=True)
        return f"{_choice('inputs', all_inputs)} with {_choice('outputs', all_outputs)} would fit"
    return _other_levels(own, _returned(net, own, images), images)


def _with(own: Any, presets: list[Any]) -> list[Any]:
    return [own, *(preset for preset in presets if preset != own)]


def _other_levels(own: Interface, returned: Any, images: Tensor) -> str:
    """Return which number of levels would fit what the network returned, or ""."""
    if not isinstance(returned, Tensor) or returned.dim() < 3:
        return ""
    channels = returned.shape[1]
    levels = [count for count in (channels // own.colors, channels, 2) if 2 <= count <= MAX_LEVELS]
    for count, outputs in itertools.product(levels, _with(own.outputs, [*OUTPUTS])):
        if unsuitable(outputs, own.colors, count) is not None:
            continue
        if _fits(dataclasses.replace(own, levels=count, outputs=outputs), returned, images):
            preset = "" if outputs == own.outputs else f" with outputs={outputs!r}"
            return f"levels={count}{preset} would fit"
    return ""


def _returned(net: nn.Module, interface: Interface, images: Tensor) -> Any:
    """Return what the network returns; None if it fails."""
    try:
        return interface.call(net, images)
    except Exception:
        return None


def _fits(interface: Interface, returned: Any, images: Tensor) -> bool:
    try:
        return not bool(interface.logits(returned, images).isnan().any())
    except Exception:
        return False


def _choice(argument: str, found: Sequence[Any]) -> str:
    """Return a choice of presets, such as "inputs='unit' or 'symmetric'"; "" for none."""
    names = list(dict.fromkeys(map(name_of, found)))
    return f"{argument}={' or '.join(names)}" if names else ""


@torch.no_grad()
def check_values(model: nn.Module, net: nn.Module, own: Interface, size: tuple[int, int]) -> None:
    """Check the values of a network's outputs on an image of zeros, of maxima and a random one.

    Args:
        model: the module from images to logits that uses the interface.
    Raises:
        ValueError: the network fails at the highest level, or returns other values than the preset
            takes: probabilities in place of logits, or the reverse.
    """
    name = type(net).__name__
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    zeros, highest, noise = _images(own, size, device)
    logits = [model(zeros)]
    try:
        logits.append(model(highest))
    except NOT_DIAGNOSED:
        raise
    except Exception as error:
        raise ValueError(
            f"{name} takes an image of zeros, but fails on one of the value {own.levels - 1}, "
            f"the highest of levels={own.levels} ({error})"
        ) from error
    logits.append(model(noise))
    if own.outputs == "probability":
        for image in (zeros, highest, noise):
            _check_probability(own.call(net, image), name)
    elif own.outputs == "bernoulli":
        if all(_in_unit_interval(each[:, 1]) for each in logits) and _is_bounded(net, own, noise):
            raise ValueError(
                f"{name} returns numbers from 0 to 1 whatever its parameters are, expected a logit "
                "for outputs='bernoulli'; outputs='probability' would fit"
            )
    elif all(map(_are_probabilities, logits)):
        raise ValueError(
            f"{name} returns probabilities, expected logits for outputs={name_of(own.outputs)}; "
            f"{_logarithm(own)}"
        )


def _images(own: Interface, size: tuple[int, int], device: torch.device) -> tuple[Tensor, ...]:
    """Return an image of zeros, one of the highest level and a random one."""
    random = torch.Generator().manual_seed(0)
    shape = (1, own.colors, *size)
    noise = torch.randint(own.levels, shape, generator=random, dtype=torch.uint8, device="cpu")
    zeros = torch.zeros_like(noise)
    return zeros.to(device), (zeros + (own.levels - 1)).to(device), noise.to(device)


def _check_probability(p: Tensor, name: str) -> None:
    if not _in_unit_interval(p) and not p.isnan().any():
        raise ValueError(
            f"{name} returns numbers from {float(p.min()):.4g} to {float(p.max()):.4g}, "
            "expected 0 to 1 for outputs='probability'; outputs='bernoulli' takes logits"
        )


def _in_unit_interval(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _are_probabilities(logits: Tensor) -> bool:
    """Return True if the logits are in [0, 1] and their sum over the levels is 1."""
    error = (logits.float().sum(1) - 1).abs().max()
    return _in_unit_interval(logits) and bool(error <= max(1e-3, torch.finfo(logits.dtype).eps))


def _logarithm(own: Interface) -> str:
    if callable(own.outputs):
        return "outputs must return their logarithm"
    formula = LOGARITHMS[own.outputs].format(colors=own.colors, levels=own.levels)
    return f"outputs=lambda p: {formula} would fit"


def _is_bounded(net: nn.Module, own: Interface, images: Tensor) -> bool:
    """Return True if all outputs are in [0, 1], not all zero, for any parameters.

    A logit of an untrained network may be in [0, 1] by chance, so a copy with large random
    parameters tells it from a probability. False if the network cannot be copied.
    """
    if not can_copy(net):
        return False
    try:
        copied = copy_model(net)
    except Exception:  # a user's class may refuse
        return False
    random, any_positive = torch.Generator().manual_seed(0), False
    for _ in range(16):  # the only logit of a small image is often positive
        _randomize(copied, random)
        z = _returned(copied, own, images)
        if not isinstance(z, Tensor) or not _in_unit_interval(z):
            return False
        any_positive |= bool(z.any())
    return any_positive


def _randomize(net: nn.Module, random: torch.Generator) -> None:
    """Draw the parameters from N(0, 100), except those that are masks of zeros and ones."""
    for parameter in net.parameters():
        is_mask = bool(((parameter == 0) | (parameter == 1)).all())
        if parameter.is_floating_point() and not is_mask:
            noise = torch.randn(parameter.shape, generator=random, device="cpu")
            parameter.copy_(10 * noise)
