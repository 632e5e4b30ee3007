"""The networks of the papers."""

from .base import Config, PixelModel
from .conditioning import ConditioningNetwork, ConditioningNetworkConfig
from .gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig
from .pixelcnn import PixelCNN, PixelCNNConfig
from .prsr import PixelRecursiveSR, PixelRecursiveSRConfig

__all__ = [
    "ConditioningNetwork",
    "ConditioningNetworkConfig",
    "Config",
    "GatedPixelCNN",
    "GatedPixelCNNConfig",
    "PixelCNN",
    "PixelCNNConfig",
    "PixelModel",
    "PixelRecursiveSR",
    "PixelRecursiveSRConfig",
]
