"""Reading of TOML files into Python's own types."""

from pathlib import Path
from typing import Any

LARGEST = 2**63 - 1
"""The largest integer of TOML, by absolute value."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file.

    Raises:
        ValueError: the file is not TOML, or an integer at its top level has more than 64 bits.
        OSError: the file cannot be read.
    """
    import tomlkit  # imported here, because sampling and training work without it
    from tomlkit.exceptions import TOMLKitError

    try:
        values: dict[str, Any] = tomlkit.parse(path.read_bytes()).unwrap()
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    for key, value in values.items():
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"{path} is not TOML: {key} has more than 64 bits")
    return values
