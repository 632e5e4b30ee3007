"""pixelsr: fast, exact pixel-autoregressive image models."""

from . import functional, nn, sampling
from .analysis.causality import check_causality
from .analysis.receptive_field import receptive_field
from .errors import CausalityError, LogitsError, PlanError
from .models import (
    ConditioningNetwork,
    DiagonalBiLSTM,
    GatedPixelCNN,
    PixelCNN,
    PixelRecursiveSR,
    RowLSTM,
)
from .sampling import sample
from .utils.system import watch_forks

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
