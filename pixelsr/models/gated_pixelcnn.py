"""Gated PixelCNN (van den Oord et al.; 1606.05328), at the sizes of the PRSR paper's prior."""

import dataclasses

import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.nn import GatedLayer, MaskedConv2d, init

from .base import Config, Layers, PixelModel, is_plain
from .head import Head


@dataclasses.dataclass(frozen=True)
class GatedPixelCNNConfig(Config):
    """The prior of Pixel Recursive Super Resolution: 20 gated layers 5x5 of 64 channels."""

    channels: int = 64
    layers: int = 20
    kernel_size: int = 5
    first_kernel_size: int = 7
    head_channels: int = 1024
    colours: int = 3
    levels: int = 256


class GatedPixelCNN(PixelModel):
    """Two stacks of gated layers; the vertical one starts with a layer of strictly the rows above.

    Args:
        **options: the fields of `GatedPixelCNNConfig`.
    Shape:
        images, uint8 ``[N, colours, H, W]``, to logits ``[N, levels, colours, H, W]``.
    """

    Config = GatedPixelCNNConfig
    config: GatedPixelCNNConfig

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.config = c = GatedPixelCNNConfig(**options)
        size = c.first_kernel_size
        self.vertical_first = MaskedConv2d(c.colours, c.channels, size, "V-first", c.colours)
        self.horizontal_first = MaskedConv2d(c.colours, c.channels, (1, size), "A", c.colours)
        init.normal_(self.vertical_first)
        init.normal_(self.horizontal_first)
        self.layers = nn.ModuleList(
            GatedLayer(c.channels, c.kernel_size, c.colours) for _ in range(c.layers)
        )
        self.head = Head(c.channels, c.head_channels, c.colours, c.levels)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def output_layers(self) -> Layers | None:
        return self.head.layers() if is_plain(self.head, Head) else None

    def features(self, images: Tensor) -> Tensor:
        c = self.config
        x = functional.scale_levels(images, c.colours, c.levels, self.dtype)
        vertical, horizontal = self.vertical_first(x), self.horizontal_first(x)
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        return F.relu(horizontal)
