"""The networks: PixelCNN, PixelRNN and Pixel Recursive Super Resolution."""

from .base import Config, PixelModel
from .conditioning import ConditioningNetwork, ConditioningNetworkConfig
from .pixelcnn import GatedPixelCNN, GatedPixelCNNConfig, PixelCNN, PixelCNNConfig
from .pixelrnn import DiagonalBiLSTM, DiagonalBiLSTMConfig, PixelRNN, RowLSTM, RowLSTMConfig
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
