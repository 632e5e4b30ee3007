"""How fast models are sampled here: side by side in one process, in turns, medians of ratios.

The yardstick is one forward pass of the same network on the same batch in plain PyTorch: a picture
that takes 3 forward passes takes 3 on any machine, more or less.
"""

from .growth import Growth, measure_growth
from .inputs import Batch, make_batch
from .measure import measure, measure_batch
from .report import Figure, Report, times_faster
from .samplers import Sampler, samplers
from .timing import machine

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
