"""Experiments: one command each, from images to figures, plots and a paragraph of the documents.

A module or a package an experiment; it has

- `run`, which takes a `ExperimentConfig` and writes ``NAME.json`` and the PNG files beside it,
- `section`, the paragraph of ``docs/results.md`` as Markdown, made from that JSON alone.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from .support.config import SCALES, ExperimentConfig
from .support.results import finish

EXPERIMENTS = {
    "corner-digits": "a digit in one of two corners: who draws exactly one",
    "faces": "8x8 faces enlarged in every way, scored and side by side",
    "completion": "the other half of digits and faces, and what it costs",
    "ablation": "the loss without its second term, no color masks, the blind spot",
    "real-or-fake": "a page on which people tell samples from photos",
    "receptive-field": "the likelihood of binarized MNIST against what a model can see",
}
"""Names, and what each is about; its module has the name with underscores."""

__all__ = ["EXPERIMENTS", "SCALES", "Task", "run", "section"]


def run(name: str, task: ExperimentConfig) -> bool:
    """Do an experiment, or go on with the one that `task.out` holds; a finished one stays as it is.

    Returns:
        true where it is finished, false where `task.stop` has ended it; the same task goes on.
    Raises:
        ValueError, OSError: a task that does not fit; the message says why.
    """
    finished = bool(_module(name).run(task))
    if finished:
        finish(task, name)
    return finished


def section(name: str, results: Mapping[str, Any]) -> str:
    """What the documents say of an experiment's figures, as Markdown."""
    return str(_module(name).section(results))


def _module(name: str) -> Any:
    return importlib.import_module(f".{name.replace('-', '_')}", __name__)
