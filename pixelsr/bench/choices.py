"""The samplers to compare: every engine that can run, with every weight dtype."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from pixelsr.sampling import sample
from pixelsr.sampling.engines import ENGINES, choose_engine, unsupported_reason
from pixelsr.sampling.plan_cache import plan_of
from pixelsr.sampling.request import Request, make_request

from .inputs import Batch

SLOW = ("reference",)
"""The engines that are meant for correctness, not for speed."""
WEIGHTS = ("model", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class EngineChoice:
    """A sampler: ``pixelsr.sample(method="cached")`` with an engine and weights, given by name."""

    engine: str
    weights: str = "model"

    @property
    def is_slow(self) -> bool:
        return self.engine in SLOW

    def __call__(self, batch: Batch) -> Tensor:
        """Draw the batch, uint8 ``[B, C, H, W]``."""
        return sample(
            batch.model,
            1 if batch.low_res is not None else len(batch),
            image_size=batch.image_size,
            low_res=batch.low_res,
            engine=self.engine,
            weights=self.weights,
        )


def engine_choices(
    device: torch.device, engines: Sequence[str] = (), batch: Batch | None = None
) -> list[EngineChoice]:
    """Return the samplers that can draw on a device, the best engine first.

    The reference engine appears with the model's own weights alone: it rounds weights but always
    computes in float32, so other weights do not change its speed.

    Args:
        engines: names of engines; empty for all that can run.
        batch: a batch of the model to draw from; choices that cannot run its plan, or do not
            support its weights, are left out.
    Raises:
        ValueError: a name is unknown, or that engine cannot run; the message says why.
    """
    names = engines or [name for name in ENGINES if unsupported_reason(name, device) is None]
    found = []
    for name in names:
        choose_engine(name, device)
        every = [
            EngineChoice(name, weights) for weights in (WEIGHTS[:1] if name in SLOW else WEIGHTS)
        ]
        reasons = [None if batch is None else unsupported_by(sampler, batch) for sampler in every]
        if name in engines and all(reasons):
            raise ValueError(f"engine {name!r} cannot run: {reasons[0]}")
        found += [one for one, reason in zip(every, reasons, strict=True) if reason is None]
    return found


def unsupported_by(sampler: EngineChoice, batch: Batch) -> str | None:
    """Return the reason why a sampler cannot draw from a batch's model, or None if it can."""
    request = request_of(batch, sampler.weights)
    engine = choose_engine(sampler.engine, batch.device)
    return engine.unsupported_reason(plan_of(request), request)


def request_of(batch: Batch, weights: str) -> Request:
    """Return the request of a sampler for a batch."""
    return make_request(
        batch.model,
        1 if batch.low_res is not None else len(batch),
        image_size=batch.image_size,
        low_res=batch.low_res,
        weights=weights,
    )
