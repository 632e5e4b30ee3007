"""The recurrences of PixelRNN as operators."""

from . import bidirectional, schema

__all__ = ["bidirectional", "schema"]
