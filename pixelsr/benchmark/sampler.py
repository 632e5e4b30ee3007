"""The ways to draw by the plan: every engine that can run, with every kind of weights."""

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..sampling import sample
from ..sampling.engines import ENGINES, choose_engine, why_not
from .batch import Batch

SLOW = ("reference",)
"""Engines that are for being right."""
WEIGHTS = ("model", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Sampler:
    """``pixelsr.sample(method="cached")`` with an engine and weights, by the names it has there."""

    engine: str
    weights: str = "model"

    @property
    def is_slow(self) -> bool:
        return self.engine in SLOW

    def __call__(self, batch: Batch) -> Tensor:
        """Draw the batch: uint8 ``[B, C, H, W]``."""
        return sample(
            batch.model,
            1 if batch.low_res is not None else len(batch),
            image_size=batch.image_size,
            low_res=batch.low_res,
            engine=self.engine,
            weights=self.weights,
        )


def samplers(device: torch.device, engines: Sequence[str] = ()) -> list[Sampler]:
    """What can draw on a device, the best engine first.

    The reference engine rounds weights and then computes in float32 all the same, so that other
    weights have no speed of their own there.

    Args:
        engines: names; none for all that can run.
    Raises:
        ValueError: a name is unknown, or that engine cannot run; it says why.
    """
    names = engines or [name for name in ENGINES if why_not(name, device) is None]
    return list(_samplers(device, names))


def _samplers(device: torch.device, names: Sequence[str]) -> Iterator[Sampler]:
    for name in names:
        choose_engine(name, device)
        for weights in WEIGHTS[:1] if name in SLOW else WEIGHTS:
            yield Sampler(name, weights)
