"""Drop-in layers: the building blocks of causal networks."""

from . import init
from .diagonal_lstm import DiagonalBiLSTMLayer
from .gated import GatedLayer
from .masked_conv import GatedMaskedConv2d, MaskedConv2d
from .residual import PixelCNNBlock
from .row_lstm import RowLSTMLayer

__all__ = [
    "DiagonalBiLSTMLayer",
    "GatedLayer",
    "GatedMaskedConv2d",
    "MaskedConv2d",
    "PixelCNNBlock",
    "RowLSTMLayer",
    "init",
]
