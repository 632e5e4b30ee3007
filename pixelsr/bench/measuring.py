"""Measurement of all samplers in turns, each next to a forward pass of the same batch."""

import dataclasses
import datetime
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pixelsr.models import PixelModel

from . import timing
from .choices import EngineChoice
from .growth import measure_growth
from .inputs import Batch, check_replay, make_batch
from .loops import cached_loop_seconds, cropped_loop_seconds, naive_loop_seconds
from .passes import Pass, check_the_same_logits, cropped_pass, dense_pass
from .report import (
    CACHED,
    CACHED_LOOP,
    CROPPED,
    CROPPED_LOOP,
    DENSE,
    NAIVE_LOOP,
    Measurement,
    Report,
)
from .timing import machine, seconds

SLOW_ROUNDS = 3
"""The most rounds of what takes seconds to minutes: slow engines, the loops, and large images."""


@dataclasses.dataclass(frozen=True)
class _Side:
    """One side of the comparison; `turn` runs it once and returns the seconds."""

    method: str
    engine: str | None
    weights: str | None
    rounds: int
    turn: Callable[[], float]


def measure(
    model: PixelModel,
    engine_choices: Sequence[EngineChoice],
    *,
    image_size: tuple[int, int],
    batches: Sequence[int],
    rounds: int,
    report: Callable[[str], None] = lambda line: None,
) -> Report:
    """Measure every sampler, the loops and the forward passes at each batch size.

    Args:
        model: the model, measured on its device; it is put into eval mode.
        engine_choices: the samplers, as `engine_choices` returns them.
        image_size: height and width of the images.
        rounds: number of turns of each side; slow sides take at most `SLOW_ROUNDS`.
        report: called with a line before each part of the work.
    Raises:
        ValueError: two sides give different results, so that nothing is measured.
    """
    results: list[Measurement] = []
    for size in batches:
        report(f"batch {size}")
        results += measure_batch(make_batch(model, size, image_size), engine_choices, rounds)
    growth = []
    for sampler in engine_choices:
        if not sampler.is_slow:
            report(f"large images, engine {sampler.engine}, weights {sampler.weights}")
            growth.append(measure_growth(model, sampler, image_size, min(rounds, SLOW_ROUNDS)))
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    described = model.describe()
    return Report(machine(model.device), now, described, image_size, tuple(results), tuple(growth))


def measure_batch(
    batch: Batch, engine_choices: Sequence[EngineChoice], rounds: int
) -> list[Measurement]:
    """Measure one batch size: each side in turn, followed by a dense forward pass.

    Before any timing, the draws of each sampler are checked by a forward pass, and the forward
    passes are compared with each other. This also warms all of them up.

    Raises:
        ValueError: two sides give different results.
    """
    dense, cropped = dense_pass(batch), cropped_pass(batch)
    check_the_same_logits(cropped, dense)
    for sampler in engine_choices:
        # One image is enough for a slow engine: calls that take a second need no warm-up.
        first = make_batch(batch.model, 1, batch.image_size) if sampler.is_slow else batch
        check_replay(f"engine {sampler.engine}", first, sampler(first), sampler.weights)
    sides = list(_sides(batch, engine_choices, cropped, rounds))
    taken: list[list[tuple[float, float]]] = [[] for _ in sides]
    for turn in range(rounds):
        for side, times in zip(sides, taken, strict=True):
            if turn < side.rounds:
                times.append((side.turn(), seconds(batch.device, dense)))
    results = [
        _measurement(side.method, side.engine, side.weights, batch, times)
        for side, times in zip(sides, taken, strict=True)
    ]
    passes = [(forward, forward) for times in taken for _, forward in times]
    return [*results, _measurement(DENSE, None, None, batch, passes)]


def _sides(
    batch: Batch, engine_choices: Sequence[EngineChoice], cropped: Pass, rounds: int
) -> Iterator[_Side]:
    few = min(rounds, SLOW_ROUNDS)
    for sampler in engine_choices:
        count = few if sampler.is_slow else rounds
        turn = partial(seconds, batch.device, sampler, batch)
        yield _Side(CACHED, sampler.engine, sampler.weights, count, turn)
    if timing.uses_graphs(batch.device):
        yield _Side(CACHED_LOOP, None, None, few, partial(cached_loop_seconds, batch))
    yield _Side(CROPPED_LOOP, None, None, few, partial(cropped_loop_seconds, batch))
    yield _Side(NAIVE_LOOP, None, None, few, partial(naive_loop_seconds, batch))
    yield _Side(CROPPED, None, None, rounds, partial(seconds, batch.device, cropped))


def _measurement(
    method: str,
    engine: str | None,
    weights: str | None,
    batch: Batch,
    times: Sequence[tuple[float, float]],
) -> Measurement:
    own, forward = zip(*times, strict=True)
    return Measurement(method, engine, weights, len(batch), own, forward)
