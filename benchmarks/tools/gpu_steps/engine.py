"""The check and the time of the CUDA engine with 16-bit weights, also by event."""

import statistics

from pixelsr.bench import Batch, EngineChoice
from pixelsr.bench.inputs import flips
from pixelsr.bench.timing import seconds

from ..breakdown import break_down
from . import report
from .setting import BATCHES, batch_of, emulate, make_model

WEIGHTS = "bfloat16"
ROUNDS, FEW, MANY = 5, 3, 256
"""The numbers of rounds: `FEW` for batches of `MANY` images or more, else `ROUNDS`."""


def run() -> None:
    emulate()
    model = make_model()
    for count in BATCHES:
        batch = batch_of(model, count)
        draw(batch, "cuda")
        made = break_down(batch, WEIGHTS, rounds_of(batch)).as_json()
        report(what="breakdown", engine="cuda", **made)


def rounds_of(batch: Batch) -> int:
    return ROUNDS if len(batch) < MANY else FEW


def draw(batch: Batch, engine: str) -> None:
    """Draw a batch repeatedly; report the share of values that a forward pass would change."""
    sampler = EngineChoice(engine, WEIGHTS)
    drawn = sampler(batch)
    own = {"engine": engine, "weights": WEIGHTS, "batch": len(batch)}
    report(what="replay", **own, flips=flips(batch, drawn, WEIGHTS))
    times = [seconds(batch.device, sampler, batch) for _ in range(rounds_of(batch))]
    speed = len(batch) / statistics.median(times)
    report(what="draw", **own, seconds=times, images_per_second=speed)
