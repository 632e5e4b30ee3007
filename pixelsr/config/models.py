"""The configs of the models: frozen dataclasses of sizes, whose defaults are the papers'."""

import dataclasses
from typing import Any

MAX_LEVELS = 256
"""The largest number of levels: images are uint8."""
LARGEST = 65_536
"""The bound of a size: a damaged config is refused before anything is built."""
LARGEST_OF = {
    "layers": 1024,
    "blocks": 128,
    "scale_factor": 256,
    "kernel_size": 255,
    "first_kernel_size": 255,
}
"""The bounds of sizes that cost more time or memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The sizes of a model, positive ints of at most `LARGEST` or the field's `LARGEST_OF`."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type in (int, "int"):  # a string in a file that postpones annotations
                check_size(field.name, getattr(self, field.name))
        levels = getattr(self, "levels", 256)
        check_level_count(levels)


def check_size(name: str, size: Any) -> None:
    """Check that a size of a config is a positive int within its bound.

    Raises:
        ValueError: it is not.
    """
    if type(size) is not int or size < 1:
        raise ValueError(f"{name} must be a positive int, got {size!r}")
    largest = LARGEST_OF.get(name, LARGEST)
    if size > largest:
        raise ValueError(f"{name} must be at most {largest:,}, got {size:,}")


def check_level_count(levels: Any) -> None:
    """Check that `levels` is an int from 2 to 256.

    Raises:
        ValueError: it is not.
    """
    if type(levels) is not int or not 2 <= levels <= MAX_LEVELS:
        raise ValueError(f"levels must be 2 to {MAX_LEVELS}, got {levels!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelCNNConfig(Config):
    """The paper's CIFAR-10 model: 15 layers, h = 128."""

    channels: int = 128
    layers: int = 15
    kernel_size: int = 3
    first_kernel_size: int = 7
    head_channels: int = 1024
    colors: int = 3
    levels: int = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedPixelCNNConfig(PixelCNNConfig):
    """The prior of Pixel Recursive Super Resolution: 20 gated 5x5 layers of 64 channels."""

    channels: int = 64
    layers: int = 20
    kernel_size: int = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelRNNConfig(Config):
    """The paper's sizes for CIFAR-10: 12 recurrent layers, h = 128.

    `layers` counts only the recurrent layers. `skip` adds a connection from each of them to the
    output. `scale_factor`, a power of two, selects the multi-scale form, which draws an image
    conditioned on one that is smaller by this factor along each side.
    """

    channels: int = 128
    layers: int = 12
    first_kernel_size: int = 7
    head_channels: int = 1024
    colors: int = 3
    levels: int = 256
    skip: bool = False
    scale_factor: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.skip) is not bool:
            raise ValueError(f"skip must be true or false, got {self.skip!r}")
        times = self.scale_factor
        if times is None:
            return
        if type(times) is not int or times < 1 or times & (times - 1):
            raise ValueError(f"scale_factor must be a power of two or None, got {times!r}")
        check_size("scale_factor", times)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowLSTMConfig(PixelRNNConfig):
    """The paper's CIFAR-10 model: 12 layers, h = 128, state-to-state kernels of 3 columns."""

    kernel_size: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagonalBiLSTMConfig(PixelRNNConfig):
    """The paper's CIFAR-10 model: 12 layers, h = 128."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditioningNetworkConfig(Config):
    """The paper's sizes for faces: 6 residual blocks of 32 channels at each of 3 resolutions."""

    channels: int = 32
    blocks: int = 6
    scale_factor: int = 4
    colors: int = 3
    levels: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale_factor & (self.scale_factor - 1):
            raise ValueError(f"scale_factor must be a power of two, got {self.scale_factor}")
