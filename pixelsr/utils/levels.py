"""The number of intensity levels per color, and its check."""

from typing import Any

MAX_LEVELS = 256
"""Images are uint8: a level above 255 would wrap around."""


def check_level_count(levels: Any) -> None:
    """Check that `levels` is an int from 2 to 256.

    Raises:
        ValueError: it is not.
    """
    if type(levels) is not int or not 2 <= levels <= MAX_LEVELS:
        raise ValueError(f"levels must be 2 to {MAX_LEVELS}, got {levels!r}")
