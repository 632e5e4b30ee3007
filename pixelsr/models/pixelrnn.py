"""The recurrent networks of the PixelRNN paper (1601.06759): Row LSTM and Diagonal BiLSTM."""

import abc
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.config.models import DiagonalBiLSTMConfig, PixelRNNConfig, RowLSTMConfig
from pixelsr.nn import DiagonalBiLSTMLayer, MaskedConv2d, RowLSTMLayer, init

from .base import Layers, PixelModel, is_plain
from .pixelcnn import Head


class PixelRNN(PixelModel, abc.ABC):
    """The base class of PixelRNNs: a convolution with mask A, recurrent layers, two output layers.

    The network runs on images with one more column of zeros on the right, which is cropped at the
    end. After mask A, only the features in that column depend on the last value of a row.

    A subclass defines the recurrent layers in `make_layer`, and its options in `__init__`.

    Attributes:
        scale_factor: the ratio of the sides of the image and the small image; only in the
            multi-scale form.
    """

    config: Any
    scale_factor: int

    def __init__(self, config: PixelRNNConfig) -> None:
        super().__init__()
        self.config = c = config
        width = 2 * c.channels
        self.first = MaskedConv2d(
            c.colors, width, c.first_kernel_size, mask_type="A", colors=c.colors
        )
        init.normal_(self.first)
        self.upsample, conditioning = None, 0
        if c.scale_factor is not None:  # the samplers expect no such attribute otherwise
            self.scale_factor = c.scale_factor
            self.upsample, conditioning = _upsampling(c), c.channels
        self.layers = nn.ModuleList(self.make_layer(conditioning) for _ in range(c.layers))
        skips = c.layers if c.skip else 0
        self.skips = nn.ModuleList(_skip(width, c.colors) for _ in range(skips))
        self.head = Head(width, c.head_channels, c.colors, c.levels)

    @abc.abstractmethod
    def make_layer(self, conditioning: int) -> nn.Module:
        """Return a new recurrent layer; `conditioning` is as in `nn.RowLSTMLayer`."""

    def forward(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        """Return the logits of all positions at once, ``[N, L, C, H, W]``."""
        return self.head(self.features(images, low_res))

    def output_layers(self) -> Layers | None:
        return self.head.layers() if is_plain(self.head, Head) else None

    def features(self, images: Tensor, low_res: Tensor | None = None) -> Tensor:
        c = self.config
        conditioning = self._conditioning(images, low_res)
        x = functional.normalize_images(images, c.colors, c.levels, self.dtype)
        x = self.first(F.pad(x, (0, 1)))
        outputs = []
        for layer in self.layers:
            x = layer(x, conditioning)
            outputs.append(x)
        total = None
        for skip, output in zip(self.skips, outputs, strict=False):
            total = skip(output, add=total)
        return F.relu((x if total is None else total)[..., :-1])

    def _conditioning(self, images: Tensor, low_res: Tensor | None) -> Tensor | None:
        """Return conditioning features of the padded image's size, or None without low_res."""
        c, name = self.config, type(self).__name__
        if self.upsample is None:
            if low_res is not None:
                raise ValueError(f"{name} takes no low_res: it was made without scale_factor")
            return None
        if low_res is None:
            raise ValueError(f"{name} needs low_res: it was made with scale_factor")
        x = functional.normalize_images(low_res, c.colors, c.levels, self.dtype, name="low_res")
        x = self.upsample(x)
        functional.check_scale_factor(images, x)
        return F.pad(x, (0, 1))


def _skip(channels: int, colors: int) -> nn.Module:
    layer = MaskedConv2d(channels, channels, 1, mask_type="B", colors=colors)
    init.normal_(layer)
    return layer


def _upsampling(c: PixelRNNConfig) -> nn.Module:
    """Return the layers from the small image to the conditioning map.

    They are a convolution, then a transposed convolution for each doubling of the resolution.
    """
    layers: list[nn.Module] = [nn.Conv2d(c.colors, c.channels, 3, padding=1), nn.ReLU()]
    for _ in range((c.scale_factor or 1).bit_length() - 1):
        doubling = nn.ConvTranspose2d(
            c.channels, c.channels, 3, stride=2, padding=1, output_padding=1
        )
        layers += [doubling, nn.ReLU()]
    return nn.Sequential(*layers)


class RowLSTM(PixelRNN):
    """A PixelRNN with Row LSTM layers, which compute row by row and see a triangle above a pixel.

    Its distribution is ``p(y) = prod_i softmax(logits_i(y_<i))[y_i]``, as in `PixelCNN`. PixelRNN
    paper (1601.06759), section 3.1; the multi-scale form is in section 3.6. The defaults are its
    sizes for CIFAR-10.

    Args:
        channels: h, the channels of a state; the residual stream has 2 h channels.
        layers: the number of recurrent layers.
        kernel_size: the width of the convolutions along a row, odd, in pixels.
        first_kernel_size: the side of the first convolution, odd, in pixels.
        head_channels: the number of channels of the layer before the logits.
        colors: C, the colors of an image: 3 for RGB, 1 for gray.
        levels: L, the intensity levels of a color, 2 to 256.
        skip: whether each layer is also connected to the output.
        scale_factor: a power of two for the multi-scale form, which draws an image given one that
            is smaller by this factor along each side; None for a model of images alone.
    Shape:
        images, uint8 ``[N, C, H, W]`` of any size, and with `scale_factor` low_res, uint8
        ``[N, C, h, w]``, to logits ``[N, L, C, H, W]``.
    Raises:
        TypeError: there is no such option.
        ValueError: a size is not a positive int within its bound, or a kernel size is even.
        ValueError: on a call, low_res is missing, has the wrong size, or is given to a model that
            takes none.
    """

    Config = RowLSTMConfig

    def __init__(
        self,
        *,
        channels: int = RowLSTMConfig.channels,
        layers: int = RowLSTMConfig.layers,
        kernel_size: int = RowLSTMConfig.kernel_size,
        first_kernel_size: int = RowLSTMConfig.first_kernel_size,
        head_channels: int = RowLSTMConfig.head_channels,
        colors: int = RowLSTMConfig.colors,
        levels: int = RowLSTMConfig.levels,
        skip: bool = RowLSTMConfig.skip,
        scale_factor: int | None = RowLSTMConfig.scale_factor,
    ) -> None:
        config = self.Config(
            channels=channels,
            layers=layers,
            kernel_size=kernel_size,
            first_kernel_size=first_kernel_size,
            head_channels=head_channels,
            colors=colors,
            levels=levels,
            skip=skip,
            scale_factor=scale_factor,
        )
        super().__init__(config)

    def make_layer(self, conditioning: int) -> nn.Module:
        c = self.config
        return RowLSTMLayer(c.channels, c.kernel_size, colors=c.colors, conditioning=conditioning)


class DiagonalBiLSTM(PixelRNN):
    """A PixelRNN with Diagonal BiLSTM layers; one such layer already sees all of the past.

    Its distribution is ``p(y) = prod_i softmax(logits_i(y_<i))[y_i]``, as in `PixelCNN`. PixelRNN
    paper (1601.06759), section 3.2; the multi-scale form is in section 3.6. The defaults are its
    sizes for CIFAR-10.

    Args:
        channels: h, the channels of a state; the residual stream has 2 h channels.
        layers: the number of recurrent layers.
        first_kernel_size: the side of the first convolution, odd, in pixels.
        head_channels: the number of channels of the layer before the logits.
        colors: C, the colors of an image: 3 for RGB, 1 for gray.
        levels: L, the intensity levels of a color, 2 to 256.
        skip: whether each layer is also connected to the output.
        scale_factor: a power of two for the multi-scale form, which draws an image given one that
            is smaller by this factor along each side; None for a model of images alone.
    Shape:
        images, uint8 ``[N, C, H, W]`` of any size, and with `scale_factor` low_res, uint8
        ``[N, C, h, w]``, to logits ``[N, L, C, H, W]``.
    Raises:
        TypeError: there is no such option.
        ValueError: a size is not a positive int within its bound, or a kernel size is even.
        ValueError: on a call, low_res is missing, has the wrong size, or is given to a model that
            takes none.
    """

    Config = DiagonalBiLSTMConfig

    def __init__(
        self,
        *,
        channels: int = DiagonalBiLSTMConfig.channels,
        layers: int = DiagonalBiLSTMConfig.layers,
        first_kernel_size: int = DiagonalBiLSTMConfig.first_kernel_size,
        head_channels: int = DiagonalBiLSTMConfig.head_channels,
        colors: int = DiagonalBiLSTMConfig.colors,
        levels: int = DiagonalBiLSTMConfig.levels,
        skip: bool = DiagonalBiLSTMConfig.skip,
        scale_factor: int | None = DiagonalBiLSTMConfig.scale_factor,
    ) -> None:
        config = self.Config(
            channels=channels,
            layers=layers,
            first_kernel_size=first_kernel_size,
            head_channels=head_channels,
            colors=colors,
            levels=levels,
            skip=skip,
            scale_factor=scale_factor,
        )
        super().__init__(config)

    def make_layer(self, conditioning: int) -> nn.Module:
        c = self.config
        return DiagonalBiLSTMLayer(c.channels, colors=c.colors, conditioning=conditioning)
