"""The networks of the papers."""

from .base import Config, PixelModel
from .conditioning import ConditioningNetwork, ConditioningNetworkConfig
from .diagonal_bilstm import DiagonalBiLSTM, DiagonalBiLSTMConfig
from .gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig
from .pixelcnn import PixelCNN, PixelCNNConfig
from .pixelrnn import PixelRNN
from .prsr import PixelRecursiveSR, PixelRecursiveSRConfig
from .row_lstm import RowLSTM, RowLSTMConfig

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
