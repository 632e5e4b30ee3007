"""Initial weights: signals keep their size through causal layers, however many taps are dead."""

import math

import torch
from torch import nn

from .masked_conv import MaskedConv2d


@torch.no_grad()
def normal_(layer: nn.Conv2d, gain: float = 1.0) -> None:
    """Weights from N(0, gain^2 / live taps of an output channel, on average); a zero bias.

    A gain of 3 keeps a stack of ``tanh * sigmoid`` gates without residuals at its size: a signal
    of standard deviation 1.1 before the gate leaves it with about a third of that.
    """
    if layer.weight.is_meta:
        return
    live = layer.weight[0].numel()
    if isinstance(layer, MaskedConv2d):
        live = max(1, int(layer.mask("cpu").sum()) // layer.out_channels)
    layer.weight.normal_(0, gain / math.sqrt(live))
    if layer.bias is not None:
        layer.bias.zero_()


@torch.no_grad()
def smooth_levels_(layer: nn.Conv2d, levels: int) -> None:
    """Weights of an output layer such that neighboring levels start with similar logits.

    Each input channel adds to the levels of a color a random sum of cosines, of amplitude
    1 / frequency: a network that begins so need not learn that level 127 lies beside 128.
    """
    if layer.weight.is_meta:
        return
    channels, colors = layer.in_channels, layer.out_channels // levels
    frequency = torch.arange(1, levels)
    positions = (torch.arange(levels) + 0.5) / levels
    cosines = torch.cos(math.pi * frequency[:, None] * positions) * math.sqrt(2)  # [L - 1, L]
    amplitude = 1 / frequency
    amplitude = amplitude / amplitude.norm()
    curves = (torch.randn(colors, channels, levels - 1) * amplitude) @ cosines
    weight = curves.transpose(1, 2).reshape(layer.weight.shape) / math.sqrt(channels)
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.zero_()


@torch.no_grad()
def lstm_(
    input_to_state: nn.Conv2d, state_to_state: list[nn.Parameter], initial: list[nn.Parameter]
) -> None:
    """Weights from N(0, 1 / inputs of a gate), a zero initial state, and open forget gates.

    The bias of the forget gates, 1, lets what is far above reach a pixel from the first step on.

    Args:
        input_to_state: gives the gates o, f, i, g of each direction, one after the other.
        state_to_state: of each direction, ``[4 h, h, taps]``.
        initial: of each direction, ``[2, h]``.
    """
    normal_(input_to_state)
    for weight, state in zip(state_to_state, initial, strict=True):
        weight.normal_(0, 1 / math.sqrt(weight[0].numel()))
        state.zero_()
    if input_to_state.bias is not None:
        input_to_state.bias.view(len(initial), 4, -1)[:, 1] = 1
