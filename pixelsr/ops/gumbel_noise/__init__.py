"""The noise of the draws."""

from . import schema

__all__ = ["schema"]
