"""Row LSTM (van den Oord, Kalchbrenner, Kavukcuoglu; 1601.06759)."""

import dataclasses

from torch import nn

from pixelsr.nn import RowLSTMLayer

from .pixelrnn import PixelRNN, PixelRNNConfig


@dataclasses.dataclass(frozen=True)
class RowLSTMConfig(PixelRNNConfig):
    """The paper's CIFAR-10 model: 12 layers, h = 128, state-to-state of 3 columns."""

    kernel_size: int = 3


class RowLSTM(PixelRNN):
    """PixelRNN with Row LSTM layers: fast to compute row by row, and blind beside a triangle above.

    Args:
        **options: the fields of `RowLSTMConfig`; `channels` is the paper's h, the residual stream
            has 2 h.
    Shape:
        images, uint8 ``[N, colours, H, W]``, and with `magnification` low_res, uint8
        ``[N, colours, h, w]``, to logits ``[N, levels, colours, H, W]``.
    Raises:
        ValueError: a low_res that is missing, that the model does not take, or that has another
            size.
    """

    Config = RowLSTMConfig

    def make_layer(self, conditioning: int) -> nn.Module:
        c = self.config
        return RowLSTMLayer(c.channels, c.kernel_size, c.colours, conditioning)
