"""Readers for the two files of a saved model, and checks that the weights fit the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsr.utils import strict_files

CONFIG, WEIGHTS = "config.json", "model.safetensors"
LARGEST_CONFIG = 2**16
"""The maximum size of a config in bytes."""
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The dtypes that floating-point weights may be stored in."""
PREFIXES = ("module.", "_orig_mod.")
"""The prefixes that DistributedDataParallel and torch.compile add to all names."""


def encode(description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> bytes:
    """Return a weights file with a checksum of the weights and of the model's description.

    Raises:
        ValueError: a number in the description is not finite.
    """
    return strict_files.encode(weights, {"config": description})


def read_config(path: Path) -> dict[str, Any]:
    """Return the description of a model from its `config.json`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no JSON object.
        OSError: the file cannot be read.
    """
    _check_exists(path)
    try:
        if (size := path.stat().st_size) > LARGEST_CONFIG:
            raise ValueError(f"it has {size:,} bytes, expected at most {LARGEST_CONFIG:,}")
        description = strict_files.parse(path.read_bytes())
        if not isinstance(description, dict):
            raise ValueError(f"expected an object, got {type(description).__name__}")
        return description
    except ValueError as error:
        raise ValueError(f"{path} is not the config of a pixelsr model: {error}") from None


def read_weights(path: Path, description: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a weights file; check its checksum if it has one.

    Args:
        path: the path of the file.
        description: the model's description, which must equal the one saved with the weights.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a safetensors file, is damaged, or was saved with another
            description.
        OSError: the file cannot be read.
    """
    _check_exists(path)
    weights, facts = strict_files.read(path)
    if facts is not None and facts != {"config": description}:
        raise ValueError(f"{path} was saved with another config than {path.with_name(CONFIG)}")
    return weights


def without_prefixes(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights without those `PREFIXES` that all names have and the model's lack."""
    weights = dict(weights)
    while weights and weights.keys().isdisjoint(expected):
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in weights)), None)
        if prefix is None:
            break
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def needs_double(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Return True if a weight is stored as float64 and the model has it in a narrower dtype."""
    return any(
        tensor.dtype == torch.float64 and name in expected and expected[name].dtype != tensor.dtype
        for name, tensor in weights.items()
    )


def check_fit(path: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check that the weights have the model's names and shapes, and dtypes that it holds exactly.

    Args:
        path: the path of the file, for the message.
        weights: the stored weights.
        expected: the model's state; only shapes and dtypes are read.
    Raises:
        ValueError: they do not; the message names the file and the first such tensor.
    """
    if odd := sorted(weights.keys() ^ expected.keys()):
        where = "misses" if odd[0] in expected else "has an unexpected"
        raise ValueError(f"{path} does not fit its config: it {where} tensor {odd[0]}")
    for name, tensor in weights.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape:
            raise ValueError(
                f"{path}: {name} is {list(tensor.shape)}, its config expects {list(wanted.shape)}"
            )
        if not _holds(wanted.dtype, tensor.dtype):
            raise ValueError(
                f"{path}: {name} is {tensor.dtype}, expected {_accepted(wanted.dtype)}"
            )


def check_tied(path: Path, weights: Mapping[str, Tensor], loaded: Mapping[str, Tensor]) -> None:
    """Check that tensors which share memory in the model are equal in the file.

    Args:
        path: the path of the file, for the message.
        weights: the stored weights.
        loaded: the model's state after it has loaded them.
    Raises:
        ValueError: two of them differ in the file.
    """
    owners: dict[int, str] = {}
    for name, tensor in loaded.items():
        first = owners.setdefault(tensor.untyped_storage().data_ptr(), name)
        for each in {first, name} if first != name else ():
            stored = weights[each].to(loaded[each].dtype)
            if not torch.allclose(loaded[each], stored, rtol=0, atol=0, equal_nan=True):
                raise ValueError(
                    f"{path}: {first} and {name} share memory in the model but differ in the file"
                )


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a model folder holds {CONFIG} and {WEIGHTS}")


def _holds(own: torch.dtype, stored: torch.dtype) -> bool:
    """Return True if the model's own dtype represents every number of the stored dtype."""
    if own not in DTYPES:
        return stored == own
    return stored in DTYPES and torch.promote_types(own, stored) == own


def _accepted(own: torch.dtype) -> str:
    """Name the dtypes that a tensor may be stored in.

    float64 is always accepted: it makes the whole model float64.
    """
    if own not in DTYPES:
        return str(own)
    return " or ".join(str(d) for d in DTYPES if _holds(own, d) or d is torch.float64)
