"""The plan of a network: the steps of sampling, and the stage at which each of them runs."""

from .ir import ROW, Buffer, Plan, Pointwise, Product, Span, Step
from .schedule import Schedule, macs_with_known

__all__ = [
    "ROW",
    "Buffer",
    "Plan",
    "Pointwise",
    "Product",
    "Schedule",
    "Span",
    "Step",
    "macs_with_known",
]
