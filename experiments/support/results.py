"""The results of an experiment: a JSON file that also holds its settings."""

import json
from pathlib import Path
from typing import Any

import torch

from pixelsr.bench.timing import machine
from pixelsr.config.training import difference
from pixelsr.utils.atomic_write import write_json

from .config import ExperimentConfig

Results = dict[str, Any]
FINISHED = "finished"
"""The key that marks the results of a finished experiment, which is not run again."""


def read_results(path: Path) -> Results:
    """Return the results in a file.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        results = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} does not hold the results of an experiment: {error}") from None
    if not isinstance(results, dict) or not isinstance(results.get("settings"), dict):
        raise ValueError(f'{path} does not hold the results of an experiment: no "settings"')
    return results


def write_results(path: Path, results: Results) -> None:
    """Write a file atomically; create its folder if necessary."""
    write_json(path, results, indent=1)


def begin(config: ExperimentConfig, name: str, settings: Results) -> Results:
    """Return the results in `config.out`, or write and return those of a new experiment.

    The recorded machine is the one that began the experiment.

    Raises:
        ValueError: the folder holds results with other settings.
        OSError: the file cannot be written.
    """
    path = config.out / f"{name}.json"
    before = _check_settings(path, settings) or {}
    new = {
        "experiment": name,
        "command": config.command(name),
        "settings": settings,
        "machine": machine(torch.device(config.device)),
    }
    results = new | before
    write_results(path, results)
    return results


def finish(config: ExperimentConfig, name: str) -> None:
    """Mark the results of an experiment as finished."""
    path = config.out / f"{name}.json"
    write_results(path, read_results(path) | {FINISHED: True})


def _check_settings(path: Path, settings: Results) -> Results | None:
    """Return the results in a file, which must have these settings; None without a file.

    Raises:
        ValueError: the settings differ; the message names one.
    """
    if not path.exists():
        return None
    results = read_results(path)
    if clause := difference(results["settings"], settings):
        raise ValueError(f"{path} is of another run: {clause}; choose another folder")
    return results
