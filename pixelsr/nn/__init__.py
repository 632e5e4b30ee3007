"""The layers that causal networks are built from."""

from . import init
from .blocks import GatedLayer, PixelCNNBlock
from .lstm import DiagonalBiLSTMLayer, RowLSTMLayer
from .masked_conv import GatedMaskedConv2d, MaskedConv2d

__all__ = [
    "DiagonalBiLSTMLayer",
    "GatedLayer",
    "GatedMaskedConv2d",
    "MaskedConv2d",
    "PixelCNNBlock",
    "RowLSTMLayer",
    "init",
]
