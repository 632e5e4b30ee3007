"""Checkpoints: one safetensors file, tensors and JSON together, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..files import write_whole

KEY = "pixelsr"


def write_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        tensors: the state of the run.
        facts: JSON values; stored in the metadata of the same file, so that the two never disagree.
    Raises:
        OSError: it cannot be written; what stood at `path` before still does.
    """
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(dense, metadata={KEY: json.dumps(facts)})
    write_whole(path, data)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the facts of `write_checkpoint`.

    Raises:
        ValueError: the file is damaged, or not a checkpoint of pixelsr.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts, names = (file.metadata() or {}).get(KEY), file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from None
    if facts is None:
        raise ValueError(f"{path} is not a checkpoint of pixelsr: it holds no {KEY!r} entry")
    return tensors, json.loads(facts)
