"""Settings that a run which is gone on with must have in common with its beginning."""

from collections.abc import Mapping
from typing import Any


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first setting that is not the same, as a clause; None where all are.

    Nested settings are compared one by one: {"prior": {"layers": 2}} is "prior layers".
    """
    old, new = _flat(before), _flat(now)
    for name in old | new:
        if old.get(name) != new.get(name):
            return f"{name.replace('_', ' ')} was {old.get(name)}, now it is {new.get(name)}"
    return None


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value) if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name} {k}": v for k, v in inner.items()}
    return flat
