"""pixelsr: fast, exact pixel-autoregressive image models."""

from . import functional, nn, sampling
from .causality import check_causality
from .errors import CausalityError
from .models import (
    ConditioningNetwork,
    GatedPixelCNN,
    PixelCNN,
    PixelRecursiveSR,
)

from .sampling import sample

__version__ = "0.1.0"
