"""PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu; 1601.06759)."""

import dataclasses

import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.nn import MaskedConv2d, PixelCNNBlock, init

from .base import Config, Layers, PixelModel, is_plain
from .head import Head


@dataclasses.dataclass(frozen=True)
class PixelCNNConfig(Config):
    """The paper's CIFAR-10 model: 15 layers, h = 128."""

    channels: int = 128
    layers: int = 15
    kernel_size: int = 3
    first_kernel_size: int = 7
    head_channels: int = 1024
    colours: int = 3
    levels: int = 256


class PixelCNN(PixelModel):
    """A first 7x7 convolution with mask A, residual blocks with mask B, two 1x1 output layers.

    `layers` counts the 7x7 layer too. The blocks leave a blind spot above on the right, as
    published; `GatedPixelCNN` has none.

    Args:
        **options: the fields of `PixelCNNConfig`; `channels` is the paper's h, the residual stream
            has 2 h.
    Shape:
        images, uint8 ``[N, colours, H, W]``, to logits ``[N, levels, colours, H, W]``.
    """

    Config = PixelCNNConfig
    config: PixelCNNConfig

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.config = c = PixelCNNConfig(**options)
        self.first = MaskedConv2d(c.colours, 2 * c.channels, c.first_kernel_size, "A", c.colours)
        init.normal_(self.first)
        self.blocks = nn.ModuleList(
            PixelCNNBlock(c.channels, c.kernel_size, c.colours) for _ in range(c.layers - 1)
        )
        self.head = Head(2 * c.channels, c.head_channels, c.colours, c.levels)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def output_layers(self) -> Layers | None:
        return self.head.layers() if is_plain(self.head, Head) else None

    def features(self, images: Tensor) -> Tensor:
        c = self.config
        x = self.first(functional.scale_levels(images, c.colours, c.levels, self.dtype))
        for block in self.blocks:
            x = block(x)
        return F.relu(x)
