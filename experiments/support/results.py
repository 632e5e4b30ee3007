"""The figures of an experiment: one JSON file, which also tells which experiment a folder holds."""

import json
from pathlib import Path
from typing import Any

import torch

from pixelsr.bench.timing import machine
from pixelsr.training.config import difference
from pixelsr.utils.atomic_write import write_whole

from .config import ExperimentConfig

Results = dict[str, Any]
FINISHED = "finished"
"""In the figures of an experiment that is done; it is not done again."""


def read_figures(path: Path) -> Results:
    """The figures in a file.

    Raises:
        ValueError: it holds something else.
    """
    try:
        results = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} does not hold the figures of an experiment: {error}") from None
    if not isinstance(results, dict) or not isinstance(results.get("settings"), dict):
        raise ValueError(f'{path} does not hold the figures of an experiment: no "settings"')
    return results


def write_figures(path: Path, results: Results) -> None:
    """Write a file, whole or not at all; the folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(results, indent=1, allow_nan=False) + "\n").encode())


def begin(task: ExperimentConfig, name: str, settings: Results) -> Results:
    """The figures of the experiment that `task.out` holds, or of a new one; written.

    The machine is that of the beginning.

    Raises:
        ValueError: it holds one of other settings.
        OSError: it cannot be written.
    """
    path = task.out / f"{name}.json"
    before = _check_settings(path, settings) or {}
    new = {
        "experiment": name,
        "command": task.command(name),
        "settings": settings,
        "machine": machine(torch.device(task.device)),
    }
    results = new | before
    write_figures(path, results)
    return results


def finish(task: ExperimentConfig, name: str) -> None:
    """Mark the figures as those of a finished experiment."""
    path = task.out / f"{name}.json"
    write_figures(path, read_figures(path) | {FINISHED: True})


def _check_settings(path: Path, settings: Results) -> Results | None:
    """The figures of an experiment with these settings that the file holds; None without a file.

    Raises:
        ValueError: it is of another; the message names a setting.
    """
    if not path.exists():
        return None
    results = read_figures(path)
    if clause := difference(results["settings"], settings):
        raise ValueError(f"{path} is of another run: {clause}; choose another folder")
    return results
