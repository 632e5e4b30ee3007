"""The networks: PixelCNN, PixelRNN and Pixel Recursive Super Resolution."""

from pixelsr.config.models import (
    ConditioningNetworkConfig,
    Config,
    DiagonalBiLSTMConfig,
    GatedPixelCNNConfig,
    PixelCNNConfig,
    RowLSTMConfig,
)

from .base import PixelModel
from .conditioning import ConditioningNetwork
from .pixelcnn import GatedPixelCNN, PixelCNN
from .pixelrnn import DiagonalBiLSTM, PixelRNN, RowLSTM
from .prsr import PixelRecursiveSR, PixelRecursiveSRConfig

__all__ = [
    "ConditioningNetwork",
    "ConditioningNetworkConfig",
    "Config",
    "DiagonalBiLSTM",
    "DiagonalBiLSTMConfig",
    "GatedPixelCNN",
    "GatedPixelCNNConfig",
    "PixelCNN",
    "PixelCNNConfig",
    "PixelModel",
    "PixelRNN",
    "PixelRecursiveSR",
    "PixelRecursiveSRConfig",
    "RowLSTM",
    "RowLSTMConfig",
]
