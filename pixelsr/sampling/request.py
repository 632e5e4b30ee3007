"""The request to a sampler, and the checks of its arguments."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from pixelsr.adapters import AdaptedModel
from pixelsr.config.models import check_level_count
from pixelsr.utils.modules import unwrap
from pixelsr.utils.system import check_memory

from .weights import WEIGHTS, effective, takes_low_res, weights_number

_BYTES_OF_ORDER = 20
"""Bytes per value of an image for the mask of unknown values and the schedule."""


@dataclass(frozen=True)
class Request:
    """The images to draw.

    Attributes:
        original: the network to sample from.
        model: the network with rounded weights if requested; see `effective`.
        weights_number: the number of the original model's weights; see `weights_number`.
        weights: the dtype that the weights are rounded to; None if they are not rounded.
        samples: number of images; the samples of one low-resolution image are consecutive.
        image_size: height and width.
        colors, levels: number of colors and of levels of the images.
        low_res: uint8 ``[M, C, h, w]`` or None; `samples` is a multiple of M.
        known: uint8 ``[1 or samples, C, H, W]``, zero where no value is given.
        known_mask: bool, the shape of `known`, true where a value is given.
        unknown: bool ``[C, H, W]`` on the CPU, true where a value has to be drawn in any sample.
        first_index: the index of the first sample in the noise.
    """

    original: nn.Module
    model: nn.Module
    weights_number: int
    weights: torch.dtype | None
    samples: int
    image_size: tuple[int, int]
    colors: int
    levels: int
    low_res: Tensor | None
    known: Tensor
    known_mask: Tensor
    unknown: Tensor
    first_index: int

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def part(self, first: int, count: int) -> Self:
        """Return the request for `count` samples from `first` on, with their part of `low_res`."""
        low_res = self.low_res
        if low_res is not None:
            per_input = self.samples // len(low_res)
            index = torch.arange(first, first + count, device=low_res.device) // per_input
            unique, counts = index.unique_consecutive(return_counts=True)
            equal = bool((counts == counts[0]).all())
            low_res = low_res[unique if equal else index]
        known, mask, unknown = self.known, self.known_mask, self.unknown
        if len(known) > 1:
            known, mask = known[first : first + count], mask[first : first + count]
            unknown = _unknown(mask)
        return dataclasses.replace(
            self,
            samples=count,
            low_res=low_res,
            known=known,
            known_mask=mask,
            unknown=unknown,
            first_index=self.first_index + first,
        )


def make_request(
    model: nn.Module,
    n: int = 1,
    *,
    image_size: tuple[int, int] | None = None,
    low_res: Tensor | None = None,
    known: Tensor | None = None,
    known_mask: Tensor | None = None,
    first_index: int = 0,
    weights: str = "model",
) -> Request:
    """Check the arguments of `pixelsr.sample` that describe the images, and return the request.

    Raises:
        ValueError, TypeError: an argument is invalid; the message names the value and what was
            expected.
    """
    model = unwrap(model)
    colors, levels = layout(model)
    check_positive("n", n)
    if type(first_index) is not int or not 0 <= first_index < 2**63:
        raise ValueError(f"first_index must be an int from 0 to 2^63 - 1, got {first_index!r}")
    device = next((parameter.device for parameter in model.parameters()), None)
    if device is None:
        raise ValueError(f"{type(model).__name__} has no parameters; expected a network")
    number = weights_number(model)
    takes, needs = takes_low_res(model)
    if (needs and low_res is None) or (low_res is not None and not takes):
        verb = "needs" if low_res is None else "takes no"
        raise ValueError(f"{type(model).__name__} {verb} low_res")
    if low_res is not None:
        check_images("low_res", low_res, colors, None)
        check_levels("low_res", low_res, levels)
        low_res = low_res.to(device)
    size = _image_size(model, image_size, low_res)
    samples = n * (1 if low_res is None else len(low_res))
    if first_index + samples > 2**63 - 1:
        raise ValueError(
            f"first_index + samples must be at most 2^63 - 1, got {first_index} + {samples}"
        )
    values = colors * size[0] * size[1]
    needed = samples * values + values * _BYTES_OF_ORDER
    check_memory(needed, samples, "draw smaller or fewer images at a time")
    if known is None and known_mask is None:  # avoids a GPU synchronization
        unknown = torch.ones(colors, *size, dtype=torch.bool, device="cpu")
        known = torch.zeros(1, colors, *size, dtype=torch.uint8, device=device)
        known_mask = known.bool()
    else:
        known, known_mask = _known(known, known_mask, samples, colors, levels, size, device)
        unknown = _unknown(known_mask)
    if isinstance(model, AdaptedModel):
        model.check_outputs(size)
    return Request(
        model,
        effective(model, weights),
        number,
        WEIGHTS.get(weights),
        samples,
        size,
        colors,
        levels,
        low_res,
        known,
        known_mask,
        unknown,
        first_index,
    )


def request_for(
    model: nn.Module, images: Tensor, low_res: Tensor | None, *, known: bool = False
) -> Request:
    """Check given images, and return a request for as many of their size.

    Args:
        images: uint8 ``[N, C, H, W]``.
        low_res: uint8 ``[N, C, h, w]``, for a model that takes it.
        known: True to request exactly these images.
    Raises:
        ValueError, TypeError: an argument is invalid; the message names the value and what was
            expected.
    """
    colors, levels = layout(unwrap(model))
    check_images("images", images, colors, None)
    check_levels("images", images, levels)
    if low_res is not None:
        check_images("low_res", low_res, colors, None)
        if len(low_res) != len(images):
            raise ValueError(f"low_res must hold {len(images)} images, got {len(low_res)}")
    return make_request(
        model,
        len(images) if low_res is None else 1,
        image_size=(int(images.shape[2]), int(images.shape[3])),
        low_res=low_res,
        known=images if known else None,
        known_mask=torch.ones_like(images, dtype=torch.bool) if known else None,
    )


def check_positive(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive int, got {value!r}")


def layout(model: nn.Module) -> tuple[int, int]:
    """Return the numbers of colors and of levels of a model's images."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    layout = getattr(model, "colors", None), getattr(model, "levels", None)
    if not all(isinstance(value, int) for value in layout):
        raise ValueError(
            f"{type(model).__name__} must have the int attributes colors and levels, got {layout}; "
            "use pixelsr.adapt(net, colors=..., levels=..., inputs=..., outputs=...)"
        )
    check_level_count(layout[1])
    return layout  # type: ignore[return-value]


def check_images(name: str, images: Tensor, colors: int, size: tuple[int, int] | None) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a uint8 tensor, got {type(images).__name__}")
    fits = images.dim() == 4 and images.shape[1] == colors and images.numel() > 0
    fits = fits and (size is None or tuple(images.shape[2:]) == size)
    if images.dtype != torch.uint8 or not fits:
        height, width = size or ("h", "w")
        raise ValueError(
            f"{name} must be uint8 [N, {colors}, {height}, {width}], "
            f"got {images.dtype} {list(images.shape)}"
        )


def check_levels(name: str, images: Tensor, levels: int) -> None:
    if int(images.max()) >= levels:
        raise ValueError(
            f"{name} holds the value {int(images.max())}; the model has {levels} levels"
        )


def _image_size(
    model: nn.Module, image_size: tuple[int, int] | None, low_res: Tensor | None
) -> tuple[int, int]:
    factor = getattr(model, "scale_factor", None)
    own = None
    if low_res is not None and factor is not None:
        own = (int(low_res.shape[2]) * factor, int(low_res.shape[3]) * factor)
    if image_size is None:
        if own is None:
            raise ValueError(f"{type(model).__name__} needs image_size, (height, width)")
        return own
    sizes = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not isinstance(sizes, tuple | list) or len(sizes) != 2:
        raise ValueError(f"image_size must be two ints, (height, width), got {image_size!r}")
    height, width = sizes
    check_positive("image_size[0]", height)
    check_positive("image_size[1]", width)
    if own not in (None, (height, width)):
        raise ValueError(
            f"image_size is {(height, width)}, expected {own} for low_res and scale_factor"
        )
    return height, width


def _known(
    known: Tensor | None,
    mask: Tensor | None,
    samples: int,
    colors: int,
    levels: int,
    size: tuple[int, int],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    if known is None or mask is None:
        raise ValueError("known and known_mask go together, got only one of them")
    check_images("known", known, colors, size)
    if not isinstance(mask, Tensor):
        raise TypeError(f"known_mask must be a bool tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool or mask.shape != known.shape:
        raise ValueError(
            f"known_mask must be bool {list(known.shape)}, got {mask.dtype} {list(mask.shape)}"
        )
    if len(known) not in (1, samples):
        raise ValueError(f"known must hold 1 or {samples} images, got {len(known)}")
    # Engines expect contiguous [N, C, H, W]; the inputs may be channels-last.
    known, mask = known.to(device).contiguous(), mask.to(device).contiguous()
    known = known.masked_fill(~mask, 0)
    check_levels("known", known, levels)
    return known, mask


def _unknown(mask: Tensor) -> Tensor:
    """Return where a value is unknown in any sample."""
    return (~mask).any(0).cpu()
