"""Strict JSON, TOML and safetensors files: they are read back exactly or rejected."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

DEPTH = 32
"""The maximum nesting depth of a JSON value."""
DIGITS = 100
"""The maximum number of digits of an integer."""


def parse(text: bytes | str) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the JSON text; bytes must be UTF-8 without a byte order mark.
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
            raise ValueError(f"the key {key!r} occurs twice in an object")
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


KEY = "pixelsr"
"""The key of the metadata entry: a JSON object with the checksum, "sha256", and the "facts".

There is one entry, because the order of several entries in a file is not fixed."""


def encode(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """Return a safetensors file of the tensors and facts, with a checksum of both.

    Each tensor is written in full, even if several share memory.

    Args:
        tensors: the tensors by name, on any device and in any layout.
        facts: JSON values.
    Raises:
        ValueError: a number among the facts is not finite.
    """
    dense = {name: _dense(tensor) for name, tensor in tensors.items()}
    plain = parse(json.dumps(facts, allow_nan=False))
    entry = {"sha256": checksum(dense, plain), "facts": plain}
    return save(dense, metadata={KEY: json.dumps(entry)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return the tensors and facts of a file written by `encode`; check its checksum.

    For a safetensors file without a "pixelsr" entry the facts are None, and nothing is checked.

    Raises:
        ValueError: the file is not a safetensors file, or is damaged.
        OSError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror or error}") from None
    return tensors, None if text is None else _checked(path, tensors, text)


def checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of facts, names, dtypes, shapes and bytes; their order does not matter.

    Args:
        tensors: contiguous tensors on the CPU, by name.
        facts: JSON values.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _checked(path: Path, tensors: Mapping[str, Tensor], text: str) -> dict[str, Any]:
    """Return the facts of a metadata entry; check that its checksum matches them and the tensors.

    Raises:
        ValueError: the entry is malformed, or the checksum does not match.
    """
    try:
        entry = parse(text)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: its entry {KEY!r} is not JSON: {error}") from None
    if not isinstance(entry, dict) or entry.keys() != {"sha256", "facts"}:
        raise ValueError(f"{path} is damaged: its entry {KEY!r} is not a checksum and facts")
    facts = entry["facts"]
    if not isinstance(facts, dict) or checksum(tensors, facts) != entry["sha256"]:
        raise ValueError(f"{path} is damaged: its contents do not match its checksum")
    return facts


def _dense(tensor: Tensor) -> Tensor:
    """Return a contiguous copy on the CPU that shares no memory."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
