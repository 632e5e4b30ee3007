"""PixelCNN (1601.06759) and Gated PixelCNN (1606.05328)."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.config.models import GatedPixelCNNConfig, PixelCNNConfig
from pixelsr.nn import GatedLayer, MaskedConv2d, PixelCNNBlock, init

from .base import Layers, PixelModel, is_plain


class Head(nn.Module):
    """The layers from features to logits: ``out(relu(hidden(x)))``, 1x1 convolutions with mask B.

    Args:
        channels: the number of channels of the features.
        hidden: the number of hidden channels (1024 in both papers).
        colors, levels: the output has ``colors * levels`` channels, color-major.
    Shape:
        ``[N, channels, H, W]`` to ``[N, levels, colors, H, W]``.
    """

    def __init__(self, channels: int, hidden: int, colors: int, levels: int) -> None:
        super().__init__()
        self.colors, self.levels = colors, levels
        self.hidden = MaskedConv2d(channels, hidden, 1, "B", colors)
        self.out = MaskedConv2d(hidden, colors * levels, 1, "B", colors)
        init.normal_(self.hidden, gain=math.sqrt(2))
        init.smooth_levels_(self.out, levels)

    def layers(self) -> Layers | None:
        """Return the weights and biases, or None if a layer is not a plain `MaskedConv2d`."""
        hidden, out = self.hidden, self.out
        if not (is_plain(hidden, MaskedConv2d) and is_plain(out, MaskedConv2d)):
            return None
        return out.weight, out.bias, hidden.weight, hidden.bias

    def forward(self, x: Tensor) -> Tensor:
        return functional.to_logits(self.out(F.relu(self.hidden(x))), self.colors, self.levels)


class PixelCNN(PixelModel):
    """The PixelCNN: a 7x7 convolution with mask A, residual blocks with mask B, two output layers.

    `layers` includes the 7x7 layer. As in the paper, the blocks leave a blind spot above on the
    right; `GatedPixelCNN` has none.

    Args:
        **options: the fields of `PixelCNNConfig`; `channels` is the paper's h, and the residual
            stream has 2 h channels.
    Shape:
        images, uint8 ``[N, colors, H, W]``, to logits ``[N, levels, colors, H, W]``.
    """

    Config = PixelCNNConfig
    config: PixelCNNConfig

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.config = c = PixelCNNConfig(**options)
        self.first = MaskedConv2d(c.colors, 2 * c.channels, c.first_kernel_size, "A", c.colors)
        init.normal_(self.first)
        self.blocks = nn.ModuleList(
            PixelCNNBlock(c.channels, c.kernel_size, c.colors) for _ in range(c.layers - 1)
        )
        self.head = Head(2 * c.channels, c.head_channels, c.colors, c.levels)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def output_layers(self) -> Layers | None:
        return self.head.layers() if is_plain(self.head, Head) else None

    def features(self, images: Tensor) -> Tensor:
        c = self.config
        x = self.first(functional.normalize_images(images, c.colors, c.levels, self.dtype))
        for block in self.blocks:
            x = block(x)
        return F.relu(x)


class GatedPixelCNN(PixelModel):
    """The Gated PixelCNN: two stacks of gated layers without a blind spot.

    The first vertical layer reads only the rows above.

    Args:
        **options: the fields of `GatedPixelCNNConfig`.
    Shape:
        images, uint8 ``[N, colors, H, W]``, to logits ``[N, levels, colors, H, W]``.
    """

    Config = GatedPixelCNNConfig
    config: GatedPixelCNNConfig

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.config = c = GatedPixelCNNConfig(**options)
        size = c.first_kernel_size
        self.vertical_first = MaskedConv2d(c.colors, c.channels, size, "V-first", c.colors)
        self.horizontal_first = MaskedConv2d(c.colors, c.channels, (1, size), "A", c.colors)
        init.normal_(self.vertical_first)
        init.normal_(self.horizontal_first)
        self.layers = nn.ModuleList(
            GatedLayer(c.channels, c.kernel_size, c.colors) for _ in range(c.layers)
        )
        self.head = Head(c.channels, c.head_channels, c.colors, c.levels)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def output_layers(self) -> Layers | None:
        return self.head.layers() if is_plain(self.head, Head) else None

    def features(self, images: Tensor) -> Tensor:
        c = self.config
        x = functional.normalize_images(images, c.colors, c.levels, self.dtype)
        vertical, horizontal = self.vertical_first(x), self.horizontal_first(x)
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        return F.relu(horizontal)
