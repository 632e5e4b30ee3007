"""Checkpoints: one safetensors file of tensors and JSON, written atomically."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from torch import Tensor

from pixelsr.utils import strict_files
from pixelsr.utils.atomic_write import write_whole

from .meters import EarlyStopping


def write_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Args:
        tensors: the state of the run.
        facts: JSON values, stored in the metadata of the same file so that they always match the
            tensors.
    Raises:
        OSError: the file cannot be written; an earlier file at `path` is kept.
    """
    write_whole(path, strict_files.encode(tensors, facts))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts that `write_checkpoint` wrote.

    Raises:
        ValueError: the file is damaged, or is not a checkpoint of pixelsr.
        OSError: the file cannot be read.
    """
    tensors, facts = strict_files.read(path)
    if facts is None:
        raise ValueError(
            f"{path} is not a checkpoint of pixelsr: it holds no {strict_files.KEY!r} entry"
        )
    return tensors, facts


LARGEST_STEP = 10**12
LARGEST_SECONDS = 10**9


@dataclasses.dataclass(frozen=True)
class Facts:
    """The facts of one checkpoint.

    Args:
        step: number of steps taken.
        seconds: time spent, over all sessions of the run.
        best: the best validation so far.
        settings: JSON values that determine the weights; a resumed run must have the same.
        without_moments: names of the parameters without optimizer state, because they never
            received a gradient.
    """

    step: int
    seconds: float
    best: EarlyStopping
    settings: dict[str, Any]
    without_moments: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values; the best bits are null before any validation."""
        facts = dataclasses.asdict(self)
        if math.isinf(self.best.bits):
            facts["best"]["bits"] = None
        return facts

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Facts":
        """Build the facts from the output of `to_json`.

        Raises:
            ValueError: a fact is missing, unknown, of the wrong type or out of range.
        """
        _check_keys("the facts", facts, cls)
        step = _count("step", facts["step"], LARGEST_STEP)
        seconds = facts["seconds"]
        if not _is_number(seconds) or not 0 <= seconds <= LARGEST_SECONDS:
            raise ValueError(f"seconds must be from 0 to {LARGEST_SECONDS:,}, got {seconds!r}")
        if not isinstance(facts["settings"], dict):
            raise ValueError(f"settings must be an object, got {facts['settings']!r}")
        names = facts["without_moments"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"without_moments must be a list of names, got {names!r}")
        return cls(step, float(seconds), _best(facts["best"], step), facts["settings"], names)


def _best(best: Any, step: int) -> EarlyStopping:
    if not isinstance(best, dict):
        raise ValueError(f"best must be an object, got {best!r}")
    _check_keys("best", best, EarlyStopping)
    bits = best["bits"]
    if bits is not None and (not _is_number(bits) or bits < 0):
        raise ValueError(f"bits of the best validation must be at least 0 or null, got {bits!r}")
    stale = _count("stale", best["stale"], step)
    measured = _count("measured", best["measured"], step)
    return EarlyStopping(math.inf if bits is None else float(bits), stale, measured)


def _check_keys(name: str, given: dict[str, Any], kind: Any) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    if odd := sorted(known ^ given.keys()):
        where = "miss" if odd[0] in known else "have an unknown"
        raise ValueError(f"{name} {where} {odd[0]!r}")


def _count(name: str, value: Any, largest: int) -> int:
    if type(value) is not int or not 0 <= value <= largest:
        raise ValueError(f"{name} must be an int from 0 to {largest:,}, got {value!r}")
    return value


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))
