"""The layers of PixelRNN (1601.06759, section 3): Row LSTM and Diagonal BiLSTM."""

import torch
from torch import Tensor, nn

from pixelsr import functional

from . import init
from .masked_conv import MaskedConv2d


class RowLSTMLayer(nn.Module):
    """``x + out(row_lstm(input_to_state(x) + condition(conditioning)))``: 2 h to h to 2 h.

    Each row is computed from the row above, all columns at once; a pixel sees a triangle above
    itself. Input-to-state is a convolution along the row with mask B. State-to-state reads the row
    above, all of which is past, so it has no mask; but the parts o, f, i, g of the gates are cut
    into color groups each by itself, as the states are.

    Args:
        channels: h; the residual stream has 2 h channels.
        kernel_size: of both convolutions along the row, odd (3 in the paper).
        colors: color groups.
        conditioning: channels of a map that is added to the gates by a 1x1 convolution without
            mask; 0 for none.
    Shape:
        ``[N, 2 h, H, W]``, with `conditioning` also ``[N, conditioning, H, W]``, to
        ``[N, 2 h, H, W]``.
    Raises:
        ValueError: an even kernel, or a conditioning map where the layer takes none, or the
            reverse.
    """

    def __init__(
        self, channels: int, kernel_size: int = 3, colors: int = 3, conditioning: int = 0
    ) -> None:
        super().__init__()
        self.input_to_state = MaskedConv2d(
            2 * channels, 4 * channels, (1, kernel_size), "B", colors, out_parts=4
        )
        self.state_to_state = nn.Parameter(torch.empty(4 * channels, channels, kernel_size))
        self.initial_state = nn.Parameter(torch.empty(2, channels))
        self.condition = make_condition(conditioning, 4 * channels)
        self.out = MaskedConv2d(channels, 2 * channels, 1, "B", colors)
        init.lstm_(self.input_to_state, [self.state_to_state], [self.initial_state])
        init.normal_(self.out, gain=0.5)

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        add = apply_condition(self.condition, conditioning)
        gates = self.input_to_state(x, add=add)
        h = functional.row_lstm(gates, self.state_to_state, self.initial_state)
        return self.out(h, add=x)


def make_condition(channels: int, gates: int) -> nn.Conv2d | None:
    """From a conditioning map to what it adds to the gates; None for no channels."""
    if channels == 0:
        return None
    layer = nn.Conv2d(channels, gates, 1, bias=False)
    init.normal_(layer)
    return layer


def apply_condition(layer: nn.Conv2d | None, conditioning: Tensor | None) -> Tensor | None:
    """What the conditioning map adds to the gates.

    Raises:
        ValueError: only one of the two is there.
    """
    if layer is None and conditioning is None:
        return None
    if layer is None or conditioning is None:
        wants = "takes no" if layer is None else f"needs a {layer.in_channels}-channel"
        raise ValueError(f"the layer {wants} conditioning map")
    return layer(conditioning)


class DiagonalBiLSTMLayer(nn.Module):
    """``x + out(diagonal_bilstm(input_to_state(x) + condition(conditioning)))``: 2 h to h to 2 h.

    One recurrence runs from the top left along the diagonals, one from the top right; the second
    map is shifted down one row and added to the first. So a pixel sees all of the past that its
    input knows. Input-to-state is a 1x1 convolution with mask B, for both directions at once; the
    four parts of the gates of each are cut into color groups each by itself. State-to-state reads
    past pixels only, and has no mask.

    After a layer with mask A no feature of a row knows the last value of that row: run the network
    on an image with one more column on the right, and crop it at the end, as
    `models.DiagonalBiLSTM` does, or that value never reaches the row below.

    Args:
        channels: h; the residual stream has 2 h channels.
        colors: color groups.
        conditioning: channels of a map that is added to the gates by a 1x1 convolution without
            mask; 0 for none.
    Shape:
        ``[N, 2 h, H, W]``, with `conditioning` also ``[N, conditioning, H, W]``, to
        ``[N, 2 h, H, W]``.
    Raises:
        ValueError: a conditioning map where the layer takes none, or the reverse.
    """

    def __init__(self, channels: int, colors: int = 3, conditioning: int = 0) -> None:
        super().__init__()
        gates = 8 * channels  # of both directions
        self.input_to_state = MaskedConv2d(2 * channels, gates, 1, "B", colors, out_parts=8)
        self.state_to_state = nn.Parameter(torch.empty(4 * channels, channels, 2))
        self.initial_state = nn.Parameter(torch.empty(2, channels))
        self.state_to_state_reverse = nn.Parameter(torch.empty(4 * channels, channels, 2))
        self.initial_state_reverse = nn.Parameter(torch.empty(2, channels))
        self.condition = make_condition(conditioning, gates)
        self.out = MaskedConv2d(channels, 2 * channels, 1, "B", colors)
        weights = [self.state_to_state, self.state_to_state_reverse]
        states = [self.initial_state, self.initial_state_reverse]
        init.lstm_(self.input_to_state, weights, states)
        init.normal_(self.out, gain=0.5)

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        add = apply_condition(self.condition, conditioning)
        gates = self.input_to_state(x, add=add)
        h = functional.diagonal_bilstm(
            gates,
            self.state_to_state,
            self.initial_state,
            self.state_to_state_reverse,
            self.initial_state_reverse,
        )
        return self.out(h, add=x)
