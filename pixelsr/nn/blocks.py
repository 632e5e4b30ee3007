"""The blocks of a PixelCNN and of a Gated PixelCNN."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import init
from .masked_conv import GatedMaskedConv2d, MaskedConv2d


class GatedLayer(nn.Module):
    """A layer of a Gated PixelCNN: a vertical and a horizontal stack that together see all past.

    With ``gate(x) = tanh(a) * sigmoid(b)``, where a and b are the two halves of x::

        v = vertical(vertical_in)  # n x n; vertical_in depends on the rows above alone
        vertical_out = gate(v)
        horizontal_out = horizontal_in + out(gate(horizontal(horizontal_in) + link(v)))

    The vertical stack feeds the horizontal one, never the reverse; only the horizontal one has a
    residual connection. There is no blind spot if the first vertical layer sees only the rows
    above. Gated PixelCNN (1606.05328), section 2.

    Args:
        channels: p, the width of both stacks; the convolutions have 2 p output channels.
        kernel_size: n, odd, in pixels.
        colors: the number of color groups of the horizontal stack.
        device, dtype: of the parameters, as in `nn.Conv2d`.
    Shape:
        two tensors ``[N, channels, H, W]`` to two tensors of the same shape; or all without N.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 5,
        *,
        colors: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        both = 2 * channels
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        horizontal: dict[str, Any] = {"mask_type": "B", "colors": colors, **factory}
        self.vertical = GatedMaskedConv2d(
            channels, both, kernel_size, mask_type="V", colors=colors, **factory
        )
        self.horizontal = GatedMaskedConv2d(
            channels, both, (1, kernel_size), out_parts=2, **horizontal
        )
        self.link = nn.Conv2d(both, both, 1, **factory)
        self.out = MaskedConv2d(channels, channels, 1, **horizontal)
        init.normal_(self.vertical, gain=3.0)
        for layer in (self.horizontal, self.link, self.out):
            init.normal_(layer)

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the vertical and the horizontal stack."""
        gated, v = self.vertical(vertical)
        h, _ = self.horizontal(horizontal, add=self.link(v))
        return gated, self.out(h, add=horizontal)


class PixelCNNBlock(nn.Module):
    """A residual block ``x + up(relu(conv(relu(down(relu(x))))))`` of convolutions with mask B.

    PixelRNN paper (1601.06759), section 3.3.

    Args:
        channels: h, the width of the middle convolution; the residual stream has 2 h channels.
        kernel_size: the size of the middle convolution, odd, in pixels (3 in the paper).
        colors: the number of color groups.
        device, dtype: of the parameters, as in `nn.Conv2d`.
    Shape:
        ``[N, 2 h, H, W]`` to the same shape; or both without N.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        colors: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "mask_type": "B",
            "colors": colors,
            "device": device,
            "dtype": dtype,
        }
        self.down = MaskedConv2d(2 * channels, channels, 1, **options)
        self.conv = MaskedConv2d(channels, channels, kernel_size, **options)
        self.up = MaskedConv2d(channels, 2 * channels, 1, **options)
        init.normal_(self.down, gain=math.sqrt(2))
        init.normal_(self.conv, gain=math.sqrt(2))
        init.normal_(self.up, gain=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus the output of the block's convolutions."""
        h = self.down(F.relu(x))
        h = self.conv(F.relu(h))
        return self.up(F.relu(h), add=x)
