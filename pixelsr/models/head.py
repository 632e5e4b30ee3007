"""The output layers that every prior shares."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.nn import MaskedConv2d, init

from .base import Layers, is_plain


class Head(nn.Module):
    """Features to logits: ``out(relu(hidden(x)))``, two 1x1 convolutions with mask B.

    Args:
        channels: of the features.
        hidden: maps between the two (1024 in both papers).
        colours, levels: the output has ``colours * levels`` maps, colour-major.
    Shape:
        ``[N, channels, H, W]`` to ``[N, levels, colours, H, W]``.
    """

    def __init__(self, channels: int, hidden: int, colours: int, levels: int) -> None:
        super().__init__()
        self.colours, self.levels = colours, levels
        self.hidden = MaskedConv2d(channels, hidden, 1, "B", colours)
        self.out = MaskedConv2d(hidden, colours * levels, 1, "B", colours)
        init.normal_(self.hidden, gain=math.sqrt(2))
        init.smooth_levels_(self.out, levels)

    def layers(self) -> Layers | None:
        """Weights and biases; None where a layer is no plain one."""
        hidden, out = self.hidden, self.out
        if not (is_plain(hidden, MaskedConv2d) and is_plain(out, MaskedConv2d)):
            return None
        return out.weight, out.bias, hidden.weight, hidden.bias

    def forward(self, x: Tensor) -> Tensor:
        return functional.to_logits(self.out(F.relu(self.hidden(x))), self.colours, self.levels)
