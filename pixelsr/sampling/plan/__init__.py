"""The plan: when each feature of a network becomes known, and what to compute then."""

from .remembered import plan
from .steps import ROW, Buffer, Plan, Pointwise, Product, Schedule, Span, Step

__all__ = ["ROW", "Buffer", "Plan", "Pointwise", "Product", "Schedule", "Span", "Step", "plan"]
