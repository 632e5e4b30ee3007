"""Drop-in layers: the building blocks of causal networks."""

from . import init
from .gated import GatedLayer
from .masked_conv import GatedMaskedConv2d, MaskedConv2d
from .residual import PixelCNNBlock

__all__ = ["GatedLayer", "GatedMaskedConv2d", "MaskedConv2d", "PixelCNNBlock", "init"]
