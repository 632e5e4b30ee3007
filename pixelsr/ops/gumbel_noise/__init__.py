"""The Gumbel noise that values are drawn with."""

from . import schema

__all__ = ["schema"]
