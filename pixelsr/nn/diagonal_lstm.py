"""The Diagonal BiLSTM layer (PixelRNN, 1601.06759, section 3.2)."""

import torch
from torch import Tensor, nn

from pixelsr import functional

from . import init
from .masked_conv import MaskedConv2d
from .row_lstm import apply_condition, make_condition


class DiagonalBiLSTMLayer(nn.Module):
    """``x + out(diagonal_bilstm(input_to_state(x) + condition(conditioning)))``: 2 h to h to 2 h.

    One recurrence runs from the top left along the diagonals, one from the top right; the second
    map is shifted down one row and added to the first. So a pixel sees all of the past that its
    input knows. Input-to-state is a 1x1 convolution with mask B, for both directions at once; the
    four parts of the gates of each are cut into colour groups each by itself. State-to-state reads
    past pixels only, and has no mask.

    After a layer with mask A no feature of a row knows the last value of that row: run the network
    on a picture with one more column on the right, and crop it at the end, as
    `models.DiagonalBiLSTM` does, or that value never reaches the row below.

    Args:
        channels: h; the residual stream has 2 h channels.
        colours: colour groups.
        conditioning: channels of a map that is added to the gates by a 1x1 convolution without
            mask; 0 for none.
    Shape:
        ``[N, 2 h, H, W]``, with `conditioning` also ``[N, conditioning, H, W]``, to
        ``[N, 2 h, H, W]``.
    Raises:
        ValueError: a conditioning map where the layer takes none, or the reverse.
    """

    def __init__(self, channels: int, colours: int = 3, conditioning: int = 0) -> None:
        super().__init__()
        gates = 8 * channels  # of both directions
        self.input_to_state = MaskedConv2d(2 * channels, gates, 1, "B", colours, out_parts=8)
        self.state_to_state = nn.Parameter(torch.empty(4 * channels, channels, 2))
        self.initial_state = nn.Parameter(torch.empty(2, channels))
        self.state_to_state_reverse = nn.Parameter(torch.empty(4 * channels, channels, 2))
        self.initial_state_reverse = nn.Parameter(torch.empty(2, channels))
        self.condition = make_condition(conditioning, gates)
        self.out = MaskedConv2d(channels, 2 * channels, 1, "B", colours)
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
