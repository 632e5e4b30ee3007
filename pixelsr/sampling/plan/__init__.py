"""The plan: when each feature of a network becomes known, and what to compute then."""

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
