"""What every model shares: a frozen config, and saving and loading as safetensors and JSON."""

import dataclasses
import inspect
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from pixelsr import functional
from pixelsr.data.downsample import area_average
from pixelsr.utils.atomic_write import write_all_whole
from pixelsr.utils.levels import check_level_count
from pixelsr.utils.modules import is_reparametrized, plain_copy

from . import loading
from .loading import CONFIG, WEIGHTS

Layers = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Weight and bias of an output layer, and of the hidden layer before it, where there is one."""

BUNDLED = Path(__file__).parent.parent / "weights"
_classes: dict[str, type["PixelModel"]] = {}
LARGEST = 65_536
"""Bound of a size in a config: a damaged config is refused before anything is built."""
LARGEST_OF = {
    "layers": 1024,
    "blocks": 128,
    "scale_factor": 256,
    "kernel_size": 255,
    "first_kernel_size": 255,
}
"""Bounds of the sizes that time or memory grow faster with."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of a model; every field is a positive int, at most `LARGEST` or its `LARGEST_OF`."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type is int:
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


class PixelModel(nn.Module):
    """A model that is made from a config, or from the config's fields by keyword."""

    Config: ClassVar[type[Any]] = Config
    config: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _classes[cls.__name__] = cls
        if "forward" in vars(cls) and "output_layers" not in vars(cls):
            cls.output_layers = PixelModel.output_layers  # type: ignore[method-assign]

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The parameters' device."""
        return next(self.parameters()).device

    @property
    def colors(self) -> int:
        """Colors of an image."""
        return int(self.config.colors)

    @property
    def levels(self) -> int:
        """Intensity levels of a color."""
        return int(self.config.levels)

    def features(self, images: Tensor) -> Tensor:
        """What the output layers are applied to, ``[N, K, H, W]``, where they are known."""
        raise NotImplementedError(f"{type(self).__name__} has no features of its own")

    def output_layers(self) -> Layers | None:
        """Weights and biases that make the logits of the `features`, as in `functional.LogitsHead`.

        They are for losses that need no logits. None where `forward` is to be called instead: in a
        class with a `forward` of its own and no `output_layers`, and where a layer has hooks or is
        of another class than usual.
        """
        return None

    def nll(self, images: Tensor) -> Tensor:
        """``-log p(images)`` of a prior, in nats per image, ``[N]``.

        Args:
            images: uint8 ``[N, C, H, W]``.
        """
        layers = find_output_layers(self)
        if layers is None:
            return functional.pixel_cross_entropy_with_logits(self(images), images)[0]
        output = functional.LogitsHead(self.features(images), *layers)
        return functional.pixel_cross_entropy(images, output)[0]

    def downsample(self, images: Tensor) -> Tensor:
        """The small images that a model with a `scale_factor` is trained to draw these from.

        The area average; a class that is told something else of an image overrides it.

        Args:
            images: uint8 ``[N, C, H, W]``, below `levels`.
        Returns:
            uint8 ``[N, C, h, w]``, below `levels`.
        Raises:
            ValueError: the model draws from no small image.
        """
        scale_factor = getattr(self, "scale_factor", None)
        if scale_factor is None:
            raise ValueError(f"{type(self).__name__} draws from no small image")
        return area_average(images, scale_factor)

    def describe(self) -> dict[str, Any]:
        """The model as JSON values: its class name and the fields of its config."""
        return {"class": type(self).__name__, **dataclasses.asdict(self.config)}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "PixelModel":
        """The inverse of `describe`: a freshly initialized model."""
        fields = dict(description)
        name = fields.pop("class", None)
        classes = {key: kind for key, kind in _classes.items() if not inspect.isabstract(kind)}
        if not isinstance(name, str) or name not in classes:
            raise ValueError(f"unknown model class {name!r}; expected one of {sorted(classes)}")
        known = [field.name for field in dataclasses.fields(classes[name].Config)]
        if foreign := sorted(fields.keys() - set(known)):
            raise ValueError(f"{name} has no option {foreign[0]!r}; it has {known}")
        return classes[name](**fields)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, which is made if need be.

        Both files are written whole, or neither. The weights carry a checksum of themselves and of
        the config. Tensors that share memory are written each in full. Of reparametrized layers
        (weight norm, spectral norm, pruning) the effective weights are written, which load into
        plain layers: a checkpoint of training that goes on needs `state_dict`.

        Raises:
            OSError: the folder or a file cannot be written; the message names it.
        """
        path, description = Path(folder), self.describe()
        path.mkdir(parents=True, exist_ok=True)
        plain = plain_copy(self) if is_reparametrized(self) else self
        weights = loading.encode(description, plain.state_dict())
        config = json.dumps(description, indent=2) + "\n"
        write_all_whole({path / WEIGHTS: weights, path / CONFIG: config.encode()})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> Self:
        """Load a model from a local folder, or a bundled one by its name ("faces-8x32").

        Weights come back as float32, in eval mode, on the CPU, whether they were stored as float16,
        bfloat16 or float32 (float64 stays float64). Weights of `save_pretrained` must have the
        checksum that they were saved with, and lie beside the same config; files that others wrote
        have none, and only their names, shapes and dtypes are checked. "module." and "_orig_mod."
        before all names, which wrappers put there, are dropped.

        Raises:
            FileNotFoundError: no such folder and no such bundled name, or a file is missing.
            ValueError: a file is damaged, of another model class, of another shape, or of a dtype
                that the model cannot hold exactly.
            OSError: a file cannot be read.
        """
        folder = find_model(name)
        path = folder / WEIGHTS
        description = loading.read_config(folder / CONFIG)
        make = partial(_make, folder / CONFIG, description)
        outline = _in_float32(outline_of(make))
        if not isinstance(outline, cls):
            raise ValueError(
                f"{folder} holds a {type(outline).__name__}, expected a {cls.__name__}"
            )
        weights = loading.read_weights(path, description)
        weights = loading.without_prefixes(weights, outline.state_dict())
        double = loading.needs_double(weights, outline.state_dict())
        loading.check_fit(path, weights, (outline.double() if double else outline).state_dict())
        with torch.device("cpu"):  # whatever the default is
            model: Self = _in_float32(make())
        model = model.double() if double else model
        model.load_state_dict(weights)
        loading.check_tied(path, weights, model.state_dict())
        return model.eval()


def _in_float32(model: Any) -> Any:
    """Return a new model in float32 where PyTorch's default is another dtype."""
    return model if torch.get_default_dtype() == torch.float32 else model.float()


def _make(path: Path, description: dict[str, Any]) -> Any:
    """Return the freshly initialized model of a description; errors name the file of it."""
    try:
        return PixelModel.from_description(description)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not the config of a pixelsr model: {error}") from None


def outline_of(make: Callable[[], PixelModel]) -> PixelModel:
    """Return the model on the meta device: its shapes, without the time and memory of its numbers.

    A class whose constructor looks at numbers cannot be made there: that model is made in full.
    """
    try:
        with torch.device("meta"):
            return make()
    except RuntimeError:
        return make()


def find_output_layers(model: PixelModel) -> Layers | None:
    """Those of a model, unless somebody listens to its calls."""
    return None if _has_hooks(model) else model.output_layers()


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Is calling the module the same as computing what this class computes?"""
    return type(module) is kind and not _has_hooks(module)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def find_model(name: str | os.PathLike[str]) -> Path:
    """The folder of a model: a local one, or a bundled one by its name.

    Raises:
        FileNotFoundError: neither; the message lists the bundled names.
    """
    if str(name) and Path(name).is_dir():
        return Path(name)
    if (BUNDLED / name / CONFIG).is_file():
        return BUNDLED / name
    bundled = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))
    raise FileNotFoundError(f"no model folder {str(name)!r}, and the bundled models are {bundled}")
