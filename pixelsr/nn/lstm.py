"""The layers of PixelRNN (1601.06759, section 3): Row LSTM and Diagonal BiLSTM."""

import abc
from typing import Any

import torch
from torch import Tensor, nn

from pixelsr import functional

from . import init
from .masked_conv import MaskedConv2d


class _LSTMLayer(nn.Module, abc.ABC):
    """The base of both layers: ``x + out(lstm(input_to_state(x) + condition(conditioning)))``.

    A subclass defines the recurrence in `lstm`, and `directions`, the suffixes of the parameters
    of each direction.
    """

    directions: tuple[str, ...]

    def __init__(
        self,
        channels: int,
        kernel_size: tuple[int, int],
        taps: int,
        colors: int,
        conditioning: int,
        **factory: Any,
    ) -> None:
        super().__init__()
        parts = 4 * len(self.directions)
        self.input_to_state = MaskedConv2d(
            2 * channels,
            parts * channels,
            kernel_size,
            mask_type="B",
            colors=colors,
            out_parts=parts,
            **factory,
        )
        weights, states = [], []
        for direction in self.directions:
            weights.append(nn.Parameter(torch.empty(4 * channels, channels, taps, **factory)))
            states.append(nn.Parameter(torch.empty(2, channels, **factory)))
            self.register_parameter(f"state_to_state{direction}", weights[-1])
            self.register_parameter(f"initial_state{direction}", states[-1])
        self.condition: nn.Conv2d | None = None
        if conditioning:
            self.condition = nn.Conv2d(conditioning, parts * channels, 1, bias=False, **factory)
            init.normal_(self.condition)
        self.out = MaskedConv2d(channels, 2 * channels, 1, mask_type="B", colors=colors, **factory)
        init.lstm_(self.input_to_state, weights, states)
        init.normal_(self.out, gain=0.5)

    @abc.abstractmethod
    def lstm(self, gates: Tensor) -> Tensor:
        """Return the hidden states."""

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        """Return `x` plus the output of the recurrence."""
        gates = self.input_to_state(x, add=self._contribution(conditioning))
        return self.out(self.lstm(gates), add=x)

    def _contribution(self, conditioning: Tensor | None) -> Tensor | None:
        """Return the contribution of a conditioning map to the gates, or None without a map."""
        layer = self.condition
        if layer is None and conditioning is None:
            return None
        if layer is None or conditioning is None:
            wants = "takes no" if layer is None else f"needs a {layer.in_channels}-channel"
            raise ValueError(f"the layer {wants} conditioning map")
        return layer(conditioning)


class RowLSTMLayer(_LSTMLayer):
    """A residual Row LSTM: ``x + out(row_lstm(input_to_state(x) + condition(conditioning)))``.

    All columns of a row are computed at once from the row above; the receptive field of a pixel is
    a triangle above it. Input-to-state is a convolution along the row with mask B. State-to-state
    reads only the row above, which is past, so it has no mask. Each of the gate parts o, f, i, g is
    divided into color groups separately, like the states. PixelRNN paper (1601.06759), section 3.1.

    Args:
        channels: h, the number of state channels; the residual stream has 2 h channels.
        kernel_size: the width of both convolutions along the row, odd, in pixels (3 in the paper).
        colors: the number of color groups.
        conditioning: the number of channels of a conditioning map, which an unmasked 1x1
            convolution adds to the gates; 0 for none.
        device, dtype: of the parameters, as in `nn.LSTM`.
    Shape:
        ``[N, 2 h, H, W]``, with `conditioning` also ``[N, conditioning, H, W]``, to
        ``[N, 2 h, H, W]``; or all without N.
    Raises:
        ValueError: the kernel size is even, a conditioning map is missing, or one is given to a
            layer that takes none.
    """

    directions = ("",)
    state_to_state: nn.Parameter
    initial_state: nn.Parameter

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        colors: int = 3,
        conditioning: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        kernel = (1, kernel_size)
        super().__init__(
            channels, kernel, kernel_size, colors, conditioning, device=device, dtype=dtype
        )

    def lstm(self, gates: Tensor) -> Tensor:
        return functional.row_lstm(gates, self.state_to_state, self.initial_state)


class DiagonalBiLSTMLayer(_LSTMLayer):
    """A residual layer: ``x + out(diagonal_bilstm(input_to_state(x) + condition(conditioning)))``.

    One recurrence runs along the diagonals from the top left, the other from the top right; the
    output of the second is shifted down by one row and added to the first. So a pixel's receptive
    field is all of the past that the layer's input covers. Input-to-state is one 1x1 convolution
    with mask B for both directions; each of the four gate parts of each direction is divided into
    color groups separately. State-to-state reads past pixels only and has no mask. PixelRNN paper
    (1601.06759), section 3.2.

    After a layer with mask A, no feature of a row depends on the last value of that row, so that
    value never reaches the row below. To avoid this, run the network on images with one more
    column on the right and crop it at the end, as `models.DiagonalBiLSTM` does.

    Args:
        channels: h, the number of state channels; the residual stream has 2 h channels.
        colors: the number of color groups.
        conditioning: the number of channels of a conditioning map, which an unmasked 1x1
            convolution adds to the gates; 0 for none.
        device, dtype: of the parameters, as in `nn.LSTM`.
    Shape:
        ``[N, 2 h, H, W]``, with `conditioning` also ``[N, conditioning, H, W]``, to
        ``[N, 2 h, H, W]``; or all without N.
    Raises:
        ValueError: a conditioning map is missing, or one is given to a layer that takes none.
    """

    directions = ("", "_reverse")
    state_to_state: nn.Parameter
    initial_state: nn.Parameter
    state_to_state_reverse: nn.Parameter
    initial_state_reverse: nn.Parameter

    def __init__(
        self,
        channels: int,
        *,
        colors: int = 3,
        conditioning: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, (1, 1), 2, colors, conditioning, device=device, dtype=dtype)

    def lstm(self, gates: Tensor) -> Tensor:
        return functional.diagonal_bilstm(
            gates,
            self.state_to_state,
            self.initial_state,
            self.state_to_state_reverse,
            self.initial_state_reverse,
        )
