"""Pixel Recursive Super Resolution (Dahl, Norouzi, Shlens; 1702.00783)."""

import dataclasses
from typing import Any

from torch import Tensor

from pixelsr import functional

from .base import PixelModel, find_output_layers
from .conditioning import ConditioningNetwork
from .pixelcnn import GatedPixelCNN


@dataclasses.dataclass(frozen=True)
class PixelRecursiveSRConfig:
    """The descriptions of the two networks, as `PixelModel.describe` returns them."""

    prior: dict[str, Any]
    conditioning: dict[str, Any]


class PixelRecursiveSR(PixelModel):
    """A model of a large image y given a small image x.

    Its distribution is ``p(y | x) = prod_i softmax(A_i(x) + B_i(y_<i))[y_i]``, over the values of
    an image in raster order: row by row, left to right, color by color. Pixel Recursive Super
    Resolution (1702.00783), section 3.

    Args:
        prior: B, any model from images to logits; None for the paper's `GatedPixelCNN`.
        conditioning: A, from the small image to logits; None for the paper's network.
            Either may also be a description, as in `config.json`.
    Shape:
        images, uint8 ``[N, C, H, W]``, and low_res, uint8 ``[N, C, h, w]``, to logits
        ``[N, L, C, H, W]``, where ``H, W`` are ``h, w`` times the scale factor.
    Raises:
        ValueError: the two networks differ in colors or levels, or one is not a `PixelModel`, or
            is itself a `PixelRecursiveSR`.
    """

    Config = PixelRecursiveSRConfig
    config: PixelRecursiveSRConfig

    def __init__(
        self,
        prior: PixelModel | dict[str, Any] | None = None,
        conditioning: PixelModel | dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.prior = _model(prior, GatedPixelCNN)
        self.conditioning = _model(conditioning, ConditioningNetwork)
        for name in ("colors", "levels"):
            a, b = getattr(self.conditioning, name), getattr(self.prior, name)
            if a != b:
                raise ValueError(f"conditioning network and prior differ in {name}: {a} and {b}")
        self.config = PixelRecursiveSRConfig(self.prior.describe(), self.conditioning.describe())

    @property
    def colors(self) -> int:
        """The number of colors of an image."""
        return self.prior.colors

    @property
    def levels(self) -> int:
        """The number of intensity levels of a color."""
        return self.prior.levels

    @property
    def scale_factor(self) -> int:
        """The ratio of the sides of the large and the small image."""
        return int(self.conditioning.config.scale_factor)

    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        """Return the logits of all positions at once, ``[N, L, C, H, W]``."""
        conditioning = self.conditioning(low_res)
        return functional.add_logits(self.prior(images), conditioning)

    def nll(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        """Return ``-log softmax(A + B)[y]``, summed over each image, in nats, ``[N]``.

        Args:
            images: uint8 ``[N, C, H, W]``.
            low_res: uint8 ``[N, C, h, w]``; None for `downsample` of the images.
        """
        return self.terms(images, low_res)[0]

    def loss(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        """Return the mean of ``-log softmax(A + B)[y] - log softmax(A)[y]``, in nats per image.

        See section 3.3 of the paper. With the first term alone, B would explain the images and A
        would be ignored, since both receive the same gradient, softmax(A + B) - onehot(y). The
        second term adds softmax(A) - onehot(y) to the gradient of A's logits.

        Args:
            images, low_res: as for `nll`.
        """
        total, alone = self.terms(images, low_res)
        return (total + alone).mean()

    def terms(
        self,
        images: Tensor,
        low_res: Tensor | None = None,
        *,
        conditioning_scale: float = 1.0,
    ) -> tuple[Tensor, ...]:
        """Return both terms of the loss in nats per image, ``[N]`` each.

        Args:
            images, low_res: as for `nll`.
            conditioning_scale: the divisor of A in the second term.
        """
        low_res = self.downsample(images) if low_res is None else low_res
        layers = find_output_layers(self.prior), find_output_layers(self.conditioning)
        if layers[0] is None or layers[1] is None:
            conditioning, logits = self.conditioning(low_res), self.prior(images)
            return functional.pixel_cross_entropy_with_logits(
                logits, images, conditioning, conditioning_scale=conditioning_scale
            )
        return functional.pixel_cross_entropy(
            functional.LogitsHead(self.prior.features(images), *layers[0]),
            images,
            functional.LogitsHead(self.conditioning.features(low_res), *layers[1]),
            conditioning_scale=conditioning_scale,
        )


def _model(given: PixelModel | dict[str, Any] | None, default: type[PixelModel]) -> PixelModel:
    if given is None:
        return default()
    model = PixelModel.from_description(given) if isinstance(given, dict) else given
    if not isinstance(model, PixelModel) or isinstance(model, PixelRecursiveSR):
        kind = type(model).__name__
        raise ValueError(f"prior and conditioning must be models or descriptions, got a {kind}")
    return model
