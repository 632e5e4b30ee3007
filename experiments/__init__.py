"""Experiments: one command each, from images to results in JSON, plots and sheets of samples.

Each experiment is a module or a package with a function `run`. It takes an `ExperimentConfig` and
writes ``NAME.json`` and PNG files into the output folder. ``docs/results.md`` reports the results.
"""

import importlib

from .support.config import SCALES, ExperimentConfig

EXPERIMENTS = {
    "corner-digits": "one digit in one of two corners: which models draw exactly one",
    "faces": "8x8 faces enlarged by every method, with scores and samples",
    "completion": "the hidden half of digits and faces drawn, and the time that it takes",
    "ablation": "one loss term, no color masks, one stack with a blind spot",
    "real-or-fake": "a page on which people tell samples from photos",
    "receptive-field": "the likelihood of binarized MNIST for three receptive fields",
}
"""The names and topics; an experiment's module has its name with underscores."""

__all__ = ["EXPERIMENTS", "SCALES", "ExperimentConfig", "run"]


def run(name: str, config: ExperimentConfig) -> bool:
    """Run an experiment, or continue the one in `config.out`; a finished one stays as it is.

    Returns:
        True if it is finished, False if `config.stop` ended it; the same config continues it.
    Raises:
        ValueError, OSError: the config cannot be used; the message says why.
    """
    module = importlib.import_module(f".{name.replace('-', '_')}", __name__)
    finished = bool(module.run(config))
    if finished:
        from .support.results import finish  # imports torch

        finish(config, name)
    return finished
