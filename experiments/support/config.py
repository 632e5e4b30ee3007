"""The configuration of an experiment."""

import dataclasses
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SCALES = ("small", "paper")
MODEL = "faces-8x32"
"""The name of the bundled model."""


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """The configuration of an experiment.

    Args:
        out: output folder; it may hold an unfinished run of the same experiment.
        data: folder that holds mnist/ (the idx files of MNIST) and faces/ (with train/ and val/),
            or the one of these two that the experiment needs.
        scale: "small" for a few CPU cores; "paper" for a GPU, as published.
        model: folder or bundled name of a trained model of faces, for experiments that use one.
        device: device that trains and draws.
        steps: training steps of each model; None for the default of the scale.
        seed: seed of initial weights, image order and draws.
        stop: called after every step; True ends the experiment, which can be continued later.
    """

    out: Path
    data: Path | None = None
    scale: str = "small"
    model: str = MODEL
    device: "str | torch.device" = "cpu"
    steps: int | None = None
    seed: int = 0
    stop: Callable[[], bool] = lambda: False

    def command(self, name: str) -> str:
        """Return the command that repeats the experiment `name`."""
        options = {"scale": SCALES[0], "steps": None, "seed": 0, "model": MODEL}
        given = [
            f" --{option} {PurePath(value).name if option == 'model' else value}"
            for option, default in options.items()
            if (value := getattr(self, option)) != default
        ]
        return f"python -m experiments {name} --data data --out out{''.join(given)}"

    def images(self, name: str) -> Path:
        """Return `data`, which the experiment `name` requires.

        Raises:
            ValueError: `data` is None.
        """
        if self.data is None:
            raise ValueError(f"{name} needs --data, the folder of its images")
        return self.data
