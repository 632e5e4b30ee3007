"""Training: an interrupted and resumed run gives the same weights as an uninterrupted one."""

from pixelsr.config.training import Budget, Intervals, TrainingConfig

from .loss import bits_per_dimension
from .run_dir import RunDir
from .trainer import Trainer

__all__ = ["Budget", "Intervals", "RunDir", "Trainer", "TrainingConfig", "bits_per_dimension"]
