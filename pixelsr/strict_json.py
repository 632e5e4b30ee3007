"""JSON as its standard has it: Python's parser also takes NaN, duplicate keys and any depth."""

import json
import math
from typing import Any

DEPTH = 32
"""Levels of nesting that a value may have."""
DIGITS = 100
"""Digits that an integer may have."""


def parse(text: bytes | str) -> Any:
    """Return the value that a JSON text describes.

    Args:
        text: bytes are UTF-8, without a byte order mark.
    Raises:
        ValueError: the text is not JSON or not UTF-8, repeats a key of an object, holds a number
            that is not finite or an integer of more than `DIGITS` digits, or nests deeper than
            `DEPTH`.
    """
    decoded = text.decode() if isinstance(text, bytes) else text
    try:
        value = json.loads(
            decoded,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
        _check_depth(value, DEPTH)
    except RecursionError:
        raise _too_deep() from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} stands twice in an object")
        result[key] = value
    return result


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:DIGITS]} is too large")
    return value


def _int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"an integer has {len(digits)} digits, expected at most {DIGITS}")
    return int(digits)


def _check_depth(value: Any, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if left == 0:
        raise _too_deep()
    for inner in value.values() if isinstance(value, dict) else value:
        _check_depth(inner, left - 1)


def _too_deep() -> ValueError:
    return ValueError(f"it is nested deeper than {DEPTH} levels")
