"""The machine's peak rates: bytes copied per second, and FLOP per second of a matrix product."""

import statistics

import torch

from pixelsr.bench.timing import seconds

from . import REHEARSES, report
from .setting import DEVICE

VALUES, SIDE, ROUNDS = (2**20, 256, 3) if REHEARSES else (2**31, 8192, 10)


def run() -> None:
    source = torch.randn(VALUES, device=DEVICE, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    report(what="copy", bytes_per_second=2 * source.nbytes / _median(target.copy_, source))
    del source, target
    a, b = torch.randn(2, SIDE, SIDE, device=DEVICE, dtype=torch.bfloat16)
    report(what="product", dtype="bfloat16", flops_per_second=2 * SIDE**3 / _median(torch.mm, a, b))


def _median(work, *arguments) -> float:
    seconds(DEVICE, work, *arguments)
    return statistics.median(seconds(DEVICE, work, *arguments) for _ in range(ROUNDS))
