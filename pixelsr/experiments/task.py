"""What an experiment is told."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

SCALES = ("small", "paper")


@dataclasses.dataclass(frozen=True)
class Task:
    """How an experiment is to be done.

    Args:
        out: the folder that it writes; it may hold a part of the same experiment.
        data: where its pictures are.
        scale: "small", for a few CPU cores, or "paper", as published, for a GPU.
        device: what trains and draws.
        steps: of each model; None for as many as the scale has.
        seed: of first weights, order of the pictures and draws.
        stop: asked after every step; true ends the experiment, to be gone on with.
    """

    out: Path
    data: Path | None = None
    scale: str = "small"
    device: str | torch.device = "cpu"
    steps: int | None = None
    seed: int = 0
    stop: Callable[[], bool] = lambda: False
