"""How fast models are sampled here: side by side in one process, in turns, medians of ratios.

The yardstick is one forward pass of the same network on the same batch in plain PyTorch: a picture
that takes 3 forward passes takes 3 on any machine, more or less.
"""

from .batch import Batch, make_batch
from .growth import Growth, measure_growth
from .machines import machine
from .measuring import measure, measure_batch
from .report import Figure, Report, times_faster
from .sampler import Sampler, samplers

__all__ = [
    "Batch",
    "Figure",
    "Growth",
    "Report",
    "Sampler",
    "machine",
    "make_batch",
    "measure",
    "measure_batch",
    "measure_growth",
    "samplers",
    "times_faster",
]
