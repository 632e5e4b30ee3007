"""The base class of all models: a frozen config, and saving and loading as safetensors and JSON."""

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
from pixelsr.config.models import Config
from pixelsr.data.downsample import area_average
from pixelsr.utils.atomic_write import write_all_whole
from pixelsr.utils.modules import is_reparametrized, plain_copy

from . import loading
from .loading import CONFIG, WEIGHTS

Layers = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""The weight and bias of an output layer, then of the hidden layer before it, if there is one."""

BUNDLED = Path(__file__).parent.parent / "weights"
_classes: dict[str, type["PixelModel"]] = {}


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
        """The dtype of the parameters."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def colors(self) -> int:
        """The number of colors of an image."""
        return int(self.config.colors)

    @property
    def levels(self) -> int:
        """The number of intensity levels of a color."""
        return int(self.config.levels)

    def features(self, images: Tensor) -> Tensor:
        """Return the input of the `output_layers`, ``[N, K, H, W]``."""
        raise NotImplementedError(f"{type(self).__name__} does not implement features")

    def output_layers(self) -> Layers | None:
        """Return the weights and biases from `features` to logits, as in `functional.LogitsHead`.

        Losses use them to avoid storing the logits. The result is None if `forward` must be called
        instead: if a class overrides `forward` but not `output_layers`, or if a layer has hooks or
        an unexpected class.
        """
        return None

    def nll(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        """Return ``-log p(images)``, or ``-log p(images | low_res)``, in nats per image, ``[N]``.

        Bits per dimension are ``nll / (C * H * W * math.log(2))``.

        Args:
            images: uint8 ``[N, C, H, W]``.
            low_res: uint8 ``[N, C, h, w]``, for a model with a `scale_factor`; None for
                `downsample` of the images.
        Raises:
            ValueError: low_res is given to a model without a `scale_factor`, or the shape, the
                dtype or an intensity of the images is wrong.
        """
        low_res = self._low_res(images, low_res)
        inputs = (images,) if low_res is None else (images, low_res)
        layers = find_output_layers(self)
        if layers is None:
            return functional.pixel_cross_entropy_with_logits(self(*inputs), images)[0]
        output = functional.LogitsHead(self.features(*inputs), *layers)
        return functional.pixel_cross_entropy(output, images)[0]

    def loss(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        """Return the loss that training minimizes: the mean of `nll`, in nats per image.

        Args:
            images, low_res: as for `nll`.
        """
        nll = self.nll(images) if low_res is None else self.nll(images, low_res)
        return nll.mean()

    def _low_res(self, images: Tensor, low_res: Tensor | None) -> Tensor | None:
        """Return the small images; None for a model without a scale factor."""
        if getattr(self, "scale_factor", None) is not None:
            return self.downsample(images) if low_res is None else low_res
        if low_res is not None:
            raise ValueError(f"{type(self).__name__} has no scale_factor, so it takes no low_res")
        return None

    def downsample(self, images: Tensor) -> Tensor:
        """Return the small images that a model with a `scale_factor` is conditioned on in training.

        The default is the area average. Override this method in a class with another conditioning.

        Args:
            images: uint8 ``[N, C, H, W]``, below `levels`.
        Returns:
            uint8 ``[N, C, h, w]``, below `levels`.
        Raises:
            ValueError: the model has no scale factor.
        """
        scale_factor = getattr(self, "scale_factor", None)
        if scale_factor is None:
            raise ValueError(f"{type(self).__name__} has no scale_factor, so it takes no low_res")
        return area_average(images, scale_factor)

    def describe(self) -> dict[str, Any]:
        """Return the model's class name and config fields as JSON values."""
        return {"class": type(self).__name__, **dataclasses.asdict(self.config)}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "PixelModel":
        """Return a newly initialized model from the result of `describe`."""
        fields = dict(description)
        name = fields.pop("class", None)
        classes = {key: kind for key, kind in _classes.items() if not inspect.isabstract(kind)}
        if not isinstance(name, str) or name not in classes:
            raise ValueError(
                f"unknown model class {name!r}; expected one of {sorted(classes)}, or one of your "
                "own: import the module that defines it first"
            )
        known = [field.name for field in dataclasses.fields(classes[name].Config)]
        if foreign := sorted(fields.keys() - set(known)):
            raise ValueError(f"{name} has no option {foreign[0]!r}; it has {known}")
        return classes[name](**fields)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors` into `folder`; create it if it is missing.

        The write is atomic: either both files are replaced or neither is. The weights file contains
        a checksum of the weights and of the config. Tensors that share memory are each written in
        full. For reparametrized layers (weight norm, spectral norm, pruning) the effective weights
        are written, which load into plain layers; use `state_dict` for a checkpoint to resume
        training from.

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
        """Load a model from a local folder, or a bundled model by its name ("faces-8x32").

        The model is on the CPU and in eval mode. Weights stored as float16, bfloat16 or float32
        become float32; float64 stays float64. Weights written by `save_pretrained` must match their
        checksum and the config beside them. Files written by other programs have no checksum, so
        only names, shapes and dtypes are checked. A prefix "module." or "_orig_mod." of all names,
        which wrappers add, is removed.

        Raises:
            FileNotFoundError: there is no such folder or bundled model, or a file is missing.
            ValueError: a file is damaged, or has another model class, another shape, or a dtype
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
        with torch.device("cpu"):  # overrides the user's default device
            model: Self = _in_float32(make())
        model = model.double() if double else model
        model.load_state_dict(weights)
        loading.check_tied(path, weights, model.state_dict())
        return model.eval()


def _in_float32(model: Any) -> Any:
    """Convert a new model to float32 if PyTorch's default dtype is another."""
    return model if torch.get_default_dtype() == torch.float32 else model.float()


def _make(path: Path, description: dict[str, Any]) -> Any:
    """Return a newly initialized model from a description; errors name the file at `path`."""
    try:
        return PixelModel.from_description(description)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not the config of a pixelsr model: {error}") from None


def outline_of(make: Callable[[], PixelModel]) -> PixelModel:
    """Return the model on the meta device, which has shapes and dtypes but no data.

    If the constructor needs data, it fails there and the model is built in full.
    """
    try:
        with torch.device("meta"):
            return make()
    except RuntimeError:
        return make()


def find_output_layers(model: PixelModel) -> Layers | None:
    """Return the model's output layers, or None if hooks are registered on it."""
    return None if _has_hooks(model) else model.output_layers()


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return True if the module's class is exactly `kind` and it has no hooks."""
    return type(module) is kind and not _has_hooks(module)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def find_model(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a model, given as a local folder or as a bundled model's name.

    Raises:
        FileNotFoundError: there is neither; the message lists the bundled names.
    """
    if str(name) and Path(name).is_dir():
        return Path(name)
    if (BUNDLED / name / CONFIG).is_file():
        return BUNDLED / name
    bundled = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))
    raise FileNotFoundError(f"no model folder {str(name)!r}; the bundled models are {bundled}")
