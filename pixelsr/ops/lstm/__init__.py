"""The recurrences of PixelRNN."""

from . import bidirectional, schema

__all__ = ["bidirectional", "schema"]
