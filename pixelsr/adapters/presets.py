"""The presets: how a network takes images, and how it returns the logits of their values."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from pixelsr.functional.logits import normalize_images, to_logits

InputPreset = Literal["integers", "codes", "unit", "symmetric", "values"]
OutputPreset = Literal["logits", "levels", "level-major", "color-major", "bernoulli", "probability"]

INPUTS: dict[str, Callable[[Tensor, int, torch.dtype], Tensor]] = {
    "integers": lambda images, levels, dtype: images.long(),
    "codes": lambda images, levels, dtype: images[:, 0].long(),
    "unit": lambda images, levels, dtype: images.to(dtype) / (levels - 1),
    "symmetric": lambda images, levels, dtype: normalize_images(
        images, images.shape[1], levels, dtype
    ),
    "values": lambda images, levels, dtype: images.to(dtype),
}
"""Functions of uint8 images ``[N, C, H, W]``, the number of levels and the dtype of floats."""


def _bernoulli(z: Tensor) -> Tensor:
    """Return the logits (0, z) of the values 0 and 1."""
    z = z.reshape(len(z), 1, *z.shape[-2:])
    return torch.stack([torch.zeros(z.shape, dtype=z.dtype, device=z.device), z], 1)


def _probability(p: Tensor) -> Tensor:
    """Return the logits (log(1 - p), log p) of the values 0 and 1."""
    p = p.reshape(len(p), 1, *p.shape[-2:])
    return torch.stack([(1 - p).log(), p.log()], 1)


OUTPUTS: dict[str, Callable[[Tensor, int, int], Tensor]] = {
    "logits": lambda y, colors, levels: y,
    "levels": lambda y, colors, levels: y.unsqueeze(2),
    "level-major": lambda y, colors, levels: y.unflatten(1, (levels, colors)),
    "color-major": to_logits,
    "bernoulli": lambda y, colors, levels: _bernoulli(y),
    "probability": lambda y, colors, levels: _probability(y),
}
"""Functions of what the network returns and the numbers of colors and levels, to logits."""

SHAPES = {
    "logits": ("N L C H W",),
    "levels": ("N L H W",),
    "level-major": ("N L*C H W",),
    "color-major": ("N C*L H W",),
    "bernoulli": ("N 1 H W", "N H W"),
    "probability": ("N 1 H W", "N H W"),
}
"""The shapes of what the network may return."""

LOGARITHMS = {
    "logits": "p.log()",
    "levels": "p.log().unsqueeze(2)",
    "level-major": "p.log().unflatten(1, ({levels}, {colors}))",
    "color-major": "p.log().unflatten(1, ({colors}, {levels})).transpose(1, 2)",
}
"""The logits as an expression, if the network returns probabilities p in place of logits."""

_INSTEAD = {
    "codes": "'integers'",
    "levels": "'level-major' or 'color-major'",
}
_TWO_LEVELS = ("bernoulli", "probability")


def unsuitable(preset: str, colors: int, levels: int) -> str | None:
    """Return the reason why a preset is not for images of these colors and levels, or None."""
    if preset in _INSTEAD and colors != 1:
        return f"is for 1 color, got colors={colors}; expected {_INSTEAD[preset]}"
    if preset in _TWO_LEVELS and (colors, levels) != (1, 2):
        return f"is for 1 color and 2 levels, got colors={colors} and levels={levels}"
    return None


def suitable(presets: dict[str, Callable[..., Tensor]], colors: int, levels: int) -> list[Any]:
    """Return the presets for images of these colors and levels, one of those that are equal."""
    found = [preset for preset in presets if unsuitable(preset, colors, levels) is None]
    return [preset for preset in found if colors > 1 or not preset.endswith("-major")]


def check_preset(
    name: str,
    given: object,
    presets: dict[str, Callable[..., Tensor]],
    colors: int,
    levels: int,
) -> None:
    """Check that `given` is a function, or a preset for images of these colors and levels.

    Raises:
        TypeError, ValueError: it is neither; the message names the presets.
    """
    if callable(given):
        return
    expected = f"one of {list(presets)} or a function"
    if not isinstance(given, str):
        raise TypeError(f"{name} must be {expected}, got {type(given).__name__}")
    if given not in presets:
        raise ValueError(f"{name} must be {expected}, got {given!r}")
    reason = unsuitable(given, colors, levels)
    if reason is not None:
        raise ValueError(f"{name}={given!r} {reason}")
