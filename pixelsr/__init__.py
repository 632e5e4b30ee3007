"""pixelsr: fast, exact pixel-autoregressive image models."""

from . import functional, nn, sampling
from .causality import check_causality
from .errors import CausalityError, LogitsError, PlanError
from .forks import watch_forks
from .models import (
    ConditioningNetwork,
    DiagonalBiLSTM,
    GatedPixelCNN,
    PixelCNN,
    PixelRecursiveSR,
    RowLSTM,
)
from .receptive_field import receptive_field
from .sampling import sample

watch_forks()

__version__ = "0.1.0"
__all__ = [
    "CausalityError",
    "ConditioningNetwork",
    "DiagonalBiLSTM",
    "GatedPixelCNN",
    "LogitsError",
    "PixelCNN",
    "PixelRecursiveSR",
    "PlanError",
    "RowLSTM",
    "check_causality",
    "functional",
    "nn",
    "receptive_field",
    "sample",
    "sampling",
]
