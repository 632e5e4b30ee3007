"""Safetensors files with JSON facts beside the tensors, and a checksum of everything in them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pixelsr import strict_json

KEY = "pixelsr"
"""The entry of the file's metadata: a JSON object of the checksum, "sha256", and the "facts".

One entry, because the order of several in a file is not fixed."""


def encode(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """Return a safetensors file of the tensors and facts, with a checksum of both.

    Tensors that share memory are written each in full.

    Args:
        tensors: of any device and layout.
        facts: JSON values.
    Raises:
        ValueError: a number among the facts is not finite.
    """
    dense = {name: _dense(tensor) for name, tensor in tensors.items()}
    plain = strict_json.parse(json.dumps(facts, allow_nan=False))
    entry = {"sha256": checksum(dense, plain), "facts": plain}
    return save(dense, metadata={KEY: json.dumps(entry)})


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return the tensors and facts of a file of `encode`, after a check of its checksum.

    The facts of a safetensors file that others wrote are None; nothing can be checked there.

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
    """Return the SHA-256 of facts, names, dtypes, shapes and bytes, whatever their order.

    Args:
        tensors: contiguous, on the CPU.
        facts: JSON values.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _checked(path: Path, tensors: Mapping[str, Tensor], text: str) -> dict[str, Any]:
    """Return the facts of the metadata's entry, if they and the tensors have its checksum."""
    try:
        entry = strict_json.parse(text)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: its entry {KEY!r} is not JSON: {error}") from None
    if not isinstance(entry, dict) or entry.keys() != {"sha256", "facts"}:
        raise ValueError(f"{path} is damaged: its entry {KEY!r} is not a checksum and facts")
    facts = entry["facts"]
    if not isinstance(facts, dict) or checksum(tensors, facts) != entry["sha256"]:
        raise ValueError(f"{path} is damaged: its contents do not match its checksum")
    return facts


def _dense(tensor: Tensor) -> Tensor:
    """Return a contiguous copy on the CPU, which shares memory with nothing."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
