"""Sampling benchmarks: all methods take turns in one process; results are medians of ratios.

The unit is one forward pass of the same network on the same batch in plain PyTorch, which depends
little on the machine: an image that takes 3 forward passes takes about 3 on any machine.
"""

from .choices import EngineChoice, engine_choices
from .growth import Growth, measure_growth
from .inputs import Batch, make_batch
from .measuring import measure, measure_batch
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
