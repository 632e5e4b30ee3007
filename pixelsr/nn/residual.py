"""The residual block of the PixelCNN (PixelRNN paper, 1601.06759, figure 5)."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from . import init
from .masked_conv import MaskedConv2d


class PixelCNNBlock(nn.Module):
    """``x + up(relu(conv(relu(down(relu(x))))))``, every convolution with mask B.

    Args:
        channels: h; the residual stream has 2 h channels.
        kernel_size: of the middle convolution (3 in the paper).
        colours: colour groups.
    Shape:
        ``[N, 2 h, H, W]`` to the same.
    """

    def __init__(self, channels: int, kernel_size: int = 3, colours: int = 3) -> None:
        super().__init__()
        self.down = MaskedConv2d(2 * channels, channels, 1, "B", colours)
        self.conv = MaskedConv2d(channels, channels, kernel_size, "B", colours)
        self.up = MaskedConv2d(channels, 2 * channels, 1, "B", colours)
        init.normal_(self.down, gain=math.sqrt(2))
        init.normal_(self.conv, gain=math.sqrt(2))
        init.normal_(self.up, gain=0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.down(F.relu(x))
        h = self.conv(F.relu(h))
        return self.up(F.relu(h), add=x)
