"""The time of the noise of a 32x32 image with 256 levels: C++ kernel and PyTorch reference."""

import statistics
import time

import pytest
import torch

from pixelsr import ops
from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref

SHAPE = (1, 3072, 256)


@pytest.mark.skipif(ops.WHY_NOT_COMPILED is not None, reason=str(ops.WHY_NOT_COMPILED))
def test_compiled_noise_against_the_reference(benchmark) -> None:
    out = torch.empty(SHAPE)
    ratios = []

    def measure_once() -> None:
        start = time.perf_counter()
        torch.ops.pixelsr.gumbel_noise_(out, 0, 0, 0)
        middle = time.perf_counter()
        reference = gumbel_noise_ref(0, 0, SHAPE[0], 0, SHAPE[1], SHAPE[2])
        ratios.append((time.perf_counter() - middle) / (middle - start))
        assert torch.equal(out, reference)

    benchmark.pedantic(measure_once, rounds=15, warmup_rounds=2)
    benchmark.extra_info["times faster than the reference"] = round(statistics.median(ratios), 1)
    print("\nnoise:", dict(benchmark.extra_info))
