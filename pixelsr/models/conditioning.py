"""The conditioning network A of Pixel Recursive Super Resolution (1702.00783, section 3.2)."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.config.models import ConditioningNetworkConfig
from pixelsr.nn import init

from .base import Layers, PixelModel, is_plain


class ResidualBlock(nn.Module):
    """A residual block ``x + conv(relu(conv(relu(x))))`` of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        init.normal_(self.first, gain=math.sqrt(2))
        init.normal_(self.second, gain=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


class ConditioningNetwork(PixelModel):
    """The network A, which reads the whole small image and no pixel of the large one.

    Its layers are a 3x3 convolution and residual blocks, then for each doubling of the resolution a
    transposed convolution of stride 2 and residual blocks, and a 1x1 convolution to the logits.
    Alone, its distribution is ``p(y | x) = prod_i softmax(logits_i(x))[y_i]``. Pixel Recursive
    Super Resolution (1702.00783), section 3.2. The defaults are its sizes for faces.

    Args:
        channels: the channels of every layer.
        blocks: the number of residual blocks at each resolution.
        scale_factor: the ratio of the sides of the large and the small image, a power of two.
        colors: C, the colors of an image: 3 for RGB, 1 for gray.
        levels: L, the intensity levels of a color, 2 to 256.
    Shape:
        low_res, uint8 ``[N, C, h, w]`` of any size, to logits ``[N, L, C, H, W]``, where ``H, W``
        are ``h, w`` times the scale factor.
    Raises:
        TypeError: there is no such option.
        ValueError: a size is not a positive int within its bound, or the scale factor is not a
            power of two.
    """

    Config = ConditioningNetworkConfig
    config: ConditioningNetworkConfig

    def __init__(
        self,
        *,
        channels: int = ConditioningNetworkConfig.channels,
        blocks: int = ConditioningNetworkConfig.blocks,
        scale_factor: int = ConditioningNetworkConfig.scale_factor,
        colors: int = ConditioningNetworkConfig.colors,
        levels: int = ConditioningNetworkConfig.levels,
    ) -> None:
        super().__init__()
        self.config = c = ConditioningNetworkConfig(
            channels=channels,
            blocks=blocks,
            scale_factor=scale_factor,
            colors=colors,
            levels=levels,
        )
        body: list[nn.Module] = [nn.Conv2d(c.colors, c.channels, 3, padding=1)]
        body += [ResidualBlock(c.channels) for _ in range(c.blocks)]
        for _ in range(c.scale_factor.bit_length() - 1):
            body.append(_doubling(c.channels))
            body += [ResidualBlock(c.channels) for _ in range(c.blocks)]
        self.body = nn.Sequential(*body)
        self.out = nn.Conv2d(c.channels, c.colors * c.levels, 1)
        init.smooth_levels_(self.out, c.levels)

    @property
    def scale_factor(self) -> int:
        """The ratio of the sides of the large and the small image."""
        return self.config.scale_factor

    def forward(self, low_res: Tensor) -> Tensor:
        """Return the logits of all positions, ``[N, L, C, H, W]``."""
        c = self.config
        return functional.to_logits(self.out(self.features(low_res)), c.colors, c.levels)

    def nll(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        """Return ``-log softmax(A(low_res))[images]`` in nats per image, ``[N]``.

        Args:
            images: uint8 ``[N, C, H, W]``.
            low_res: uint8 ``[N, C, h, w]``; None for `downsample` of the images.
        """
        return functional.nll(self(self._low_res(images, low_res)), images)

    def output_layers(self) -> Layers | None:
        out = self.out
        return (out.weight, out.bias, None, None) if is_plain(out, nn.Conv2d) else None

    def features(self, low_res: Tensor) -> Tensor:
        c = self.config
        x = functional.normalize_images(low_res, c.colors, c.levels, self.dtype, name="low_res")
        return F.relu(self.body(x))


def _doubling(channels: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)
