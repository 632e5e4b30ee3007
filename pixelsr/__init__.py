"""pixelsr: fast, exact pixel-autoregressive image models."""

from . import functional, nn, sampling
from .causality import check_causality
from .errors import CausalityError, PlanError
from .models import (
    ConditioningNetwork,
    GatedPixelCNN,
    PixelCNN,
    PixelRecursiveSR,
)
from .sampling import sample

__version__ = "0.1.0"
__all__ = [
    "CausalityError",
    "ConditioningNetwork",
    "GatedPixelCNN",
    "PixelCNN",
    "PixelRecursiveSR",
    "PlanError",
    "check_causality",
    "functional",
    "nn",
    "sample",
    "sampling",
]
