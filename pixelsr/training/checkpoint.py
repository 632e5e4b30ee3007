"""Checkpoints: one safetensors file, tensors and JSON together, written whole or not at all."""

from pathlib import Path
from typing import Any

from torch import Tensor

from pixelsr.utils import strict_files
from pixelsr.utils.atomic_write import write_whole


def write_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        tensors: the state of the run.
        facts: JSON values; stored in the metadata of the same file, so that the two never disagree.
    Raises:
        OSError: it cannot be written; what stood at `path` before still does.
    """
    write_whole(path, strict_files.encode(tensors, facts))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the facts of `write_checkpoint`.

    Raises:
        ValueError: the file is damaged, or not a checkpoint of pixelsr.
        OSError: the file cannot be read.
    """
    tensors, facts = strict_files.read(path)
    if facts is None:
        raise ValueError(
            f"{path} is not a checkpoint of pixelsr: it holds no {strict_files.KEY!r} entry"
        )
    return tensors, facts
