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
        self.hidden = MaskedConv2d(channels, hidden, 1, mask_type="B", colors=colors)
        self.out = MaskedConv2d(hidden, colors * levels, 1, mask_type="B", colors=colors)
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

    Its distribution is ``p(y) = prod_i softmax(logits_i(y_<i))[y_i]``, over the values of an image
    in raster order: row by row, left to right, color by color. As in the paper, the blocks leave a
    blind spot above on the right; `GatedPixelCNN` has none. PixelRNN paper (1601.06759), section
    3.5. The defaults are its sizes for CIFAR-10.

    Args:
        channels: h, the channels of a block's middle layer; the residual stream has 2 h channels.
        layers: the number of layers before the output layers: the first and the blocks.
        kernel_size: the side of the convolution of a block, odd, in pixels.
        first_kernel_size: the side of the first convolution, odd, in pixels.
        head_channels: the number of channels of the layer before the logits.
        colors: C, the colors of an image: 3 for RGB, 1 for gray.
        levels: L, the intensity levels of a color, 2 to 256.
    Shape:
        images, uint8 ``[N, C, H, W]`` of any size, to logits ``[N, L, C, H, W]``.
    Raises:
        TypeError: there is no such option.
        ValueError: a size is not a positive int within its bound, or a kernel size is even.
    """

    Config = PixelCNNConfig
    config: PixelCNNConfig

    def __init__(
        self,
        *,
        channels: int = PixelCNNConfig.channels,
        layers: int = PixelCNNConfig.layers,
        kernel_size: int = PixelCNNConfig.kernel_size,
        first_kernel_size: int = PixelCNNConfig.first_kernel_size,
        head_channels: int = PixelCNNConfig.head_channels,
        colors: int = PixelCNNConfig.colors,
        levels: int = PixelCNNConfig.levels,
    ) -> None:
        super().__init__()
        self.config = c = self.Config(
            channels=channels,
            layers=layers,
            kernel_size=kernel_size,
            first_kernel_size=first_kernel_size,
            head_channels=head_channels,
            colors=colors,
            levels=levels,
        )
        self.first = MaskedConv2d(
            c.colors, 2 * c.channels, c.first_kernel_size, mask_type="A", colors=c.colors
        )
        init.normal_(self.first)
        self.blocks = nn.ModuleList(
            PixelCNNBlock(c.channels, c.kernel_size, colors=c.colors) for _ in range(c.layers - 1)
        )
        self.head = Head(2 * c.channels, c.head_channels, c.colors, c.levels)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of all positions at once, ``[N, L, C, H, W]``."""
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

    Its distribution is ``p(y) = prod_i softmax(logits_i(y_<i))[y_i]``, as in `PixelCNN`. A layer is
    `nn.GatedLayer`; the first vertical layer reads only the rows above. Gated PixelCNN paper
    (1606.05328), section 2. The defaults are the sizes of the prior of Pixel Recursive Super
    Resolution (1702.00783).

    Args:
        channels: the channels of both stacks.
        layers: the number of gated layers, without the first.
        kernel_size: the side of the convolutions of a layer, odd, in pixels.
        first_kernel_size: the side of the first convolution, odd, in pixels.
        head_channels: the number of channels of the layer before the logits.
        colors: C, the colors of an image: 3 for RGB, 1 for gray.
        levels: L, the intensity levels of a color, 2 to 256.
    Shape:
        images, uint8 ``[N, C, H, W]`` of any size, to logits ``[N, L, C, H, W]``.
    Raises:
        TypeError: there is no such option.
        ValueError: a size is not a positive int within its bound, or a kernel size is even.
    """

    Config = GatedPixelCNNConfig
    config: GatedPixelCNNConfig

    def __init__(
        self,
        *,
        channels: int = GatedPixelCNNConfig.channels,
        layers: int = GatedPixelCNNConfig.layers,
        kernel_size: int = GatedPixelCNNConfig.kernel_size,
        first_kernel_size: int = GatedPixelCNNConfig.first_kernel_size,
        head_channels: int = GatedPixelCNNConfig.head_channels,
        colors: int = GatedPixelCNNConfig.colors,
        levels: int = GatedPixelCNNConfig.levels,
    ) -> None:
        super().__init__()
        self.config = c = self.Config(
            channels=channels,
            layers=layers,
            kernel_size=kernel_size,
            first_kernel_size=first_kernel_size,
            head_channels=head_channels,
            colors=colors,
            levels=levels,
        )
        size = c.first_kernel_size
        self.vertical_first = MaskedConv2d(
            c.colors, c.channels, size, mask_type="V-first", colors=c.colors
        )
        self.horizontal_first = MaskedConv2d(
            c.colors, c.channels, (1, size), mask_type="A", colors=c.colors
        )
        init.normal_(self.vertical_first)
        init.normal_(self.horizontal_first)
        self.layers = nn.ModuleList(
            GatedLayer(c.channels, c.kernel_size, colors=c.colors) for _ in range(c.layers)
        )
        self.head = Head(c.channels, c.head_channels, c.colors, c.levels)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of all positions at once, ``[N, L, C, H, W]``."""
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
