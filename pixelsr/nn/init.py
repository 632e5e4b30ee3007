"""Weight initialization that keeps the scale of signals through masked layers."""

import math

import torch
from torch import nn

from .masked_conv import MaskedConv2d


@torch.no_grad()
def normal_(layer: nn.Conv2d, gain: float = 1.0) -> None:
    """Draw weights from N(0, gain^2 / n), n live taps per output channel on average; zero the bias.

    A gain of 3 keeps the scale of signals in a stack of ``tanh * sigmoid`` gates without residuals:
    a gate turns a standard deviation of 1.1 into about a third of that.
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
    """Initialize an output layer so that neighboring levels start with similar logits.

    Each input channel adds a random sum of cosines of amplitude 1 / frequency to the levels of a
    color. So the network need not learn that level 127 lies beside level 128.
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
    """Draw weights from N(0, 1 / inputs of a gate), zero the initial states, open the forget gates.

    The forget gates have a bias of 1, so that distant rows reach a pixel from the first training
    step on.

    Args:
        input_to_state: the layer that computes the gates: o, f, i, g of each direction in turn.
        state_to_state: a weight ``[4 h, h, taps]`` per direction.
        initial: an initial state ``[2, h]`` per direction.
    """
    normal_(input_to_state)
    for weight, state in zip(state_to_state, initial, strict=True):
        weight.normal_(0, 1 / math.sqrt(weight[0].numel()))
        state.zero_()
    if input_to_state.bias is not None:
        input_to_state.bias.view(len(initial), 4, -1)[:, 1] = 1
