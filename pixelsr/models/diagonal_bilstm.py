"""Diagonal BiLSTM (van den Oord, Kalchbrenner, Kavukcuoglu; 1601.06759)."""

import dataclasses

from torch import nn

from pixelsr.nn import DiagonalBiLSTMLayer

from .pixelrnn import PixelRNN, PixelRNNConfig


@dataclasses.dataclass(frozen=True)
class DiagonalBiLSTMConfig(PixelRNNConfig):
    """The paper's CIFAR-10 model: 12 layers, h = 128."""


class DiagonalBiLSTM(PixelRNN):
    """PixelRNN with Diagonal BiLSTM layers: one layer is enough to see all of the past.

    Args:
        **options: the fields of `DiagonalBiLSTMConfig`; `channels` is the paper's h, the residual
            stream has 2 h.
    Shape:
        images, uint8 ``[N, colours, H, W]``, and with `magnification` low_res, uint8
        ``[N, colours, h, w]``, to logits ``[N, levels, colours, H, W]``.
    Raises:
        ValueError: a low_res that is missing, that the model does not take, or that has another
            size.
    """

    Config = DiagonalBiLSTMConfig

    def make_layer(self, conditioning: int) -> nn.Module:
        c = self.config
        return DiagonalBiLSTMLayer(c.channels, c.colours, conditioning)
