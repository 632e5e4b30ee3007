"""The clock."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def seconds(device: torch.device, work: Callable[..., object], *arguments: object) -> float:
    """How long ``work(*arguments)`` takes, to its end on a GPU too."""
    _wait(device)
    start = time.perf_counter()
    work(*arguments)
    _wait(device)
    return time.perf_counter() - start


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of times that were taken in turn; those without a partner are not.

    Not the ratio of medians: what slows a whole round down, such as other work on the machine,
    cancels in each ratio.
    """
    return statistics.median(a / b for a, b in zip(above, below, strict=False))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
