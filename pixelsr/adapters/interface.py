"""The interface of a network: the call with images, and the logits from what it returns."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pixelsr.config.models import check_level_count, check_size

from .presets import INPUTS, OUTPUTS, SHAPES, InputPreset, OutputPreset, check_preset

Inputs = InputPreset | Callable[[Tensor], Any]
Outputs = OutputPreset | Callable[[Any], Tensor]


@dataclasses.dataclass(frozen=True)
class Interface:
    """The way a network takes images and returns logits; see `adapt` for the fields."""

    colors: int
    levels: int
    inputs: Inputs
    outputs: Outputs

    def __post_init__(self) -> None:
        check_size("colors", self.colors)
        check_level_count(self.levels)
        check_preset("inputs", self.inputs, INPUTS, self.colors, self.levels)
        check_preset("outputs", self.outputs, OUTPUTS, self.colors, self.levels)

    def __str__(self) -> str:
        return (
            f"colors={self.colors}, levels={self.levels}, "
            f"inputs={name_of(self.inputs)}, outputs={name_of(self.outputs)}"
        )

    def call(self, net: nn.Module, images: Tensor) -> Any:
        """Return what the network returns for images, uint8 ``[N, C, H, W]``."""
        if callable(self.inputs):
            given = self.inputs(images)
        else:
            given = INPUTS[self.inputs](images, self.levels, _float_of(net))
        if isinstance(given, dict):
            return net(**given)
        return net(*given) if isinstance(given, tuple) else net(given)

    def logits(self, returned: Any, images: Tensor) -> Tensor:
        """Return the logits ``[N, L, C, H, W]`` from what the network returned for the images.

        Raises:
            ValueError: there is no floating-point tensor of the expected shape.
        """
        n, colors, height, width = images.shape
        sizes = {"N": n, "L": self.levels, "C": colors, "H": height, "W": width, "1": 1}
        sizes["L*C"] = sizes["C*L"] = self.levels * colors
        if callable(self.outputs):
            logits = self.outputs(returned)
            _check(logits, "outputs", "logits", sizes)
            return logits
        if not isinstance(returned, Tensor):
            raise ValueError(
                f"the network returns a {type(returned).__name__}, and outputs={self.outputs!r} "
                f"takes a tensor: outputs must be a function, {_example(returned)}"
            )
        _check(returned, f"with outputs={self.outputs!r} the network", self.outputs, sizes)
        return OUTPUTS[self.outputs](returned, colors, self.levels)


def name_of(given: Any) -> str:
    """Return the name of a preset, in quotes, or of a function."""
    if isinstance(given, str):
        return repr(given)
    return str(getattr(given, "__name__", type(given).__name__))


def _float_of(net: nn.Module) -> torch.dtype:
    """Return the dtype of the first floating-point parameter, float32 without any."""
    dtypes = (parameter.dtype for parameter in net.parameters())
    return next((dtype for dtype in dtypes if dtype.is_floating_point), torch.float32)


def _example(returned: Any) -> str:
    if isinstance(returned, tuple | list):
        return "for example outputs=lambda y: y[0]"
    if isinstance(returned, Mapping) and returned:
        return f"for example outputs=lambda y: y[{next(iter(returned))!r}]"
    return "which returns logits [N, L, C, H, W]"


def _check(returned: Any, source: str, preset: str, sizes: dict[str, int]) -> None:
    """Check that a tensor is of a floating-point dtype and of a preset's shape."""
    if not isinstance(returned, Tensor):
        raise ValueError(f"{source} must return a tensor, got {type(returned).__name__}")
    shapes = {shape: [sizes[name] for name in shape.split()] for shape in SHAPES[preset]}
    if list(returned.shape) not in shapes.values():
        expected = [f"[{shape.replace(' ', ', ')}] = {size}" for shape, size in shapes.items()]
        raise ValueError(
            f"{source} must return {' or '.join(expected)}, got {list(returned.shape)}"
        )
    if not returned.is_floating_point():
        raise ValueError(f"{source} must return floating-point numbers, got {returned.dtype}")
