"""What an experiment is told."""

import dataclasses
from collections.abc import Callable
from pathlib import Path, PurePath

import torch

SCALES = ("small", "paper")
MODEL = "faces-8x32"
"""Bundled."""


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """How an experiment is to be done.

    Args:
        out: the folder that it writes; it may hold a part of the same experiment.
        data: a folder that holds mnist/, the idx files of MNIST, and faces/, with train/ and val/;
            or that of the two which the experiment needs.
        scale: "small", for a few CPU cores, or "paper", as published, for a GPU.
        model: a folder or the name of a bundled one: a trained model of faces, for the experiments
            that have a use for one.
        device: what trains and draws.
        steps: of each model; None for as many as the scale has.
        seed: of first weights, order of the images and draws.
        stop: asked after every step; true ends the experiment, to be gone on with.
    """

    out: Path
    data: Path | None = None
    scale: str = "small"
    model: str = MODEL
    device: str | torch.device = "cpu"
    steps: int | None = None
    seed: int = 0
    stop: Callable[[], bool] = lambda: False

    def command(self, name: str) -> str:
        """What does the experiment of this name again."""
        options = {"scale": SCALES[0], "steps": None, "seed": 0, "model": MODEL}
        given = [
            f" --{option} {PurePath(value).name if option == 'model' else value}"
            for option, default in options.items()
            if (value := getattr(self, option)) != default
        ]
        return f"python -m experiments {name} --data data --out out{''.join(given)}"

    def images(self, name: str) -> Path:
        """`data`, for the experiment of this name, which cannot do without.

        Raises:
            ValueError: it was not given.
        """
        if self.data is None:
            raise ValueError(f"{name} needs --data, the folder of its images")
        return self.data
