"""How fast models are sampled here: side by side in one process, in turns, medians of ratios.

The yardstick is one forward pass of the same network on the same batch in plain PyTorch: an image
that takes 3 forward passes takes 3 on any machine, more or less.
"""

from .engine_choices import EngineChoice, engine_choices
from .growth import Growth, measure_growth
from .inputs import Batch, make_batch
from .measure import measure, measure_batch
from .report import Measurement, Report, times_faster
from .timing import machine

__all__ = [
    "Batch",
    "EngineChoice",
    "Growth",
    "Measurement",
    "Report",
    "engine_choices",
    "machine",
    "make_batch",
    "measure",
    "measure_batch",
    "measure_growth",
    "times_faster",
]
