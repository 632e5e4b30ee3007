"""The layers of PixelRNN (1601.06759, section 3): Row LSTM and Diagonal BiLSTM."""

import torch
from torch import Tensor, nn

from pixelsr import functional

from . import init
from .masked_conv import MaskedConv2d


class RowLSTMLayer(nn.Module):
    """A residual Row LSTM: ``x + out(row_lstm(input_to_state(x) + condition(conditioning)))``.

    All columns of a row are computed at once from the row above; the receptive field of a pixel is
    a triangle above it. Input-to-state is a convolution along the row with mask B. State-to-state
    reads only the row above, which is past, so it has no mask. Each of the gate parts o, f, i, g is
    divided into color groups separately, like the states.

    Args:
        channels: h, the number of state channels; the residual stream has 2 h channels.
        kernel_size: the width of both convolutions along the row, odd (3 in the paper).
        colors: the number of color groups.
        conditioning: the number of channels of a conditioning map, which an unmasked 1x1
            convolution adds to the gates; 0 for none.
    Shape:
        ``[N, 2 h, H, W]``, with `conditioning` also ``[N, conditioning, H, W]``, to
        ``[N, 2 h, H, W]``.
    Raises:
        ValueError: the kernel size is even, a conditioning map is missing, or one is given to a
            layer that takes none.
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
    """Return the layer from a conditioning map to the gates, or None for 0 channels."""
    if channels == 0:
        return None
    layer = nn.Conv2d(channels, gates, 1, bias=False)
    init.normal_(layer)
    return layer


def apply_condition(layer: nn.Conv2d | None, conditioning: Tensor | None) -> Tensor | None:
    """Return the contribution of the conditioning map to the gates, or None if there is no map.

    Raises:
        ValueError: only one of layer and map is None.
    """
    if layer is None and conditioning is None:
        return None
    if layer is None or conditioning is None:
        wants = "takes no" if layer is None else f"needs a {layer.in_channels}-channel"
        raise ValueError(f"the layer {wants} conditioning map")
    return layer(conditioning)


class DiagonalBiLSTMLayer(nn.Module):
    """A residual layer: ``x + out(diagonal_bilstm(input_to_state(x) + condition(conditioning)))``.

    One recurrence runs along the diagonals from the top left, the other from the top right; the
    output of the second is shifted down by one row and added to the first. So a pixel's receptive
    field is all of the past that the layer's input covers. Input-to-state is one 1x1 convolution
    with mask B for both directions; each of the four gate parts of each direction is divided into
    color groups separately. State-to-state reads past pixels only and has no mask.

    After a layer with mask A, no feature of a row depends on the last value of that row, so that
    value never reaches the row below. To avoid this, run the network on images with one more
    column on the right and crop it at the end, as `models.DiagonalBiLSTM` does.

    Args:
        channels: h, the number of state channels; the residual stream has 2 h channels.
        colors: the number of color groups.
        conditioning: the number of channels of a conditioning map, which an unmasked 1x1
            convolution adds to the gates; 0 for none.
    Shape:
        ``[N, 2 h, H, W]``, with `conditioning` also ``[N, conditioning, H, W]``, to
        ``[N, 2 h, H, W]``.
    Raises:
        ValueError: a conditioning map is missing, or one is given to a layer that takes none.
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
