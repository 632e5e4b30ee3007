"""The timing of several sides in turns, as rounds of pytest-benchmark."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from pixelsr.bench.timing import in_turns


def time_in_turns(
    benchmark: Any,
    device: torch.device,
    sides: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_ups: int = 1,
) -> dict[str, list[float]]:
    """Return the seconds of each side in each round, without the rounds that warm up."""
    taken: list[dict[str, list[float]]] = []

    def measure_once() -> None:
        taken.append(in_turns(device, sides, rounds=1))

    benchmark.pedantic(measure_once, rounds=rounds, warmup_rounds=warm_ups)
    return {name: [times[name][0] for times in taken[warm_ups:]] for name in sides}
