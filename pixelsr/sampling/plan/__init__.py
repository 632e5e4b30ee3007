"""The plan: when each feature of a network becomes known, and what to compute then."""

from .known import Schedule, macs_with_known
from .steps import ROW, Buffer, Plan, Pointwise, Product, Span, Step

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
