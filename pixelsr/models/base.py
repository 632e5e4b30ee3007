"""What every model shares: a frozen config, and saving and loading as safetensors and JSON."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from typing_extensions import Self

from .. import functional
from ..area import area_average
from ..files import write_all_whole
from ..levels import check_level_count

Layers = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Weight and bias of an output layer, and of the hidden layer before it, where there is one."""

BUNDLED = Path(__file__).parent.parent / "weights"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_classes: dict[str, type["PixelModel"]] = {}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of a model; every field is a positive int."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and (type(value) is not int or value < 1):
                raise ValueError(f"{field.name} must be a positive int, got {value!r}")
        levels = getattr(self, "levels", 256)
        check_level_count(levels)


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
    def colours(self) -> int:
        """Colours of a picture."""
        return int(self.config.colours)

    @property
    def levels(self) -> int:
        """Intensity levels of a colour."""
        return int(self.config.levels)

    def features(self, images: Tensor) -> Tensor:
        """What the output layers are applied to, ``[N, K, H, W]``, where they are known."""
        raise NotImplementedError(f"{type(self).__name__} has no features of its own")

    def output_layers(self) -> Layers | None:
        """Weights and biases that make the logits of the `features`, as in `functional.Output`.

        They are for losses that need no logits. None where `forward` is to be called instead: in a
        class with a `forward` of its own and no `output_layers`, and where a layer has hooks or is
        of another class than usual.
        """
        return None

    def nats(self, images: Tensor) -> Tensor:
        """``-log p(images)`` of a prior, in nats per image, ``[N]``.

        Args:
            images: uint8 ``[N, C, H, W]``.
        """
        layers = find_output_layers(self)
        if layers is None:
            return functional.pixel_cross_entropy_with_logits(self(images), images)[0]
        output = functional.Output(self.features(images), *layers)
        return functional.pixel_cross_entropy(images, output)[0]

    def shrink(self, images: Tensor) -> Tensor:
        """The small pictures that a model with a `magnification` is trained to draw these from.

        The area average; a class that is told something else of a picture overrides it.

        Args:
            images: uint8 ``[N, C, H, W]``, below `levels`.
        Returns:
            uint8 ``[N, C, h, w]``, below `levels`.
        Raises:
            ValueError: the model draws from no small picture.
        """
        magnification = getattr(self, "magnification", None)
        if magnification is None:
            raise ValueError(f"{type(self).__name__} draws from no small picture")
        return area_average(images, magnification)

    def describe(self) -> dict[str, Any]:
        """The model as JSON values: its class name and the fields of its config."""
        return {"class": type(self).__name__, **dataclasses.asdict(self.config)}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "PixelModel":
        """The inverse of `describe`: a freshly initialised model."""
        fields = dict(description)
        name = fields.pop("class", None)
        if not isinstance(name, str) or name not in _classes:
            raise ValueError(f"unknown model class {name!r}; expected one of {sorted(_classes)}")
        known = [field.name for field in dataclasses.fields(_classes[name].Config)]
        if foreign := sorted(fields.keys() - set(known)):
            raise ValueError(f"{name} has no option {foreign[0]!r}; it has {known}")
        return _classes[name](**fields)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, which is made if need be.

        Both files are written whole, or neither.

        Raises:
            OSError: the folder or a file cannot be written; the message names it.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        config = json.dumps(self.describe(), indent=2) + "\n"
        write_all_whole({path / WEIGHTS: save(weights), path / CONFIG: config.encode()})

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> Self:
        """Load a model from a local folder, or a bundled one by its name ("faces-8x32").

        Weights come back as float32, in eval mode, on the CPU, whatever they were stored as
        (float64 stays float64).

        Raises:
            FileNotFoundError: no such folder and no such bundled name, or a file is missing.
            ValueError: a file is damaged, of another model class, or of another shape.
        """
        folder = find_model(name)
        model = cls.from_description(_read_config(folder / CONFIG))
        if not isinstance(model, cls):
            raise ValueError(f"{folder} holds a {type(model).__name__}, expected a {cls.__name__}")
        weights = _read_weights(folder / WEIGHTS)
        if any(tensor.dtype == torch.float64 for tensor in weights.values()):
            model.double()
        expected = model.state_dict()
        if weights.keys() != expected.keys():
            odd = sorted(weights.keys() ^ expected.keys())[0]
            where = "misses" if odd in expected else "has a foreign"
            raise ValueError(f"{folder / WEIGHTS} does not fit its config: it {where} tensor {odd}")
        for key, tensor in weights.items():
            if tensor.shape != expected[key].shape:
                raise ValueError(
                    f"{folder / WEIGHTS}: {key} is {list(tensor.shape)}, "
                    f"its config expects {list(expected[key].shape)}"
                )
        model.load_state_dict(weights)
        return model.eval()


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


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a model folder holds {CONFIG} and {WEIGHTS}")
    try:
        description = json.loads(path.read_text())
        if not isinstance(description, dict):
            raise ValueError(f"expected an object, got {type(description).__name__}")
        return description
    except ValueError as error:
        raise ValueError(f"{path} is not the config of a pixelsr model: {error}") from None


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a model folder holds {CONFIG} and {WEIGHTS}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None
