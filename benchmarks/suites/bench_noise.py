"""The time of the noise of a 32x32 image with 256 levels: C++ kernel and PyTorch reference."""

from functools import partial

import pytest
import torch

from pixelsr import ops
from pixelsr.bench.timing import median_ratio
from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref

from .turns import time_in_turns

SHAPE = (1, 3072, 256)


@pytest.mark.skipif(ops.WHY_NOT_COMPILED is not None, reason=str(ops.WHY_NOT_COMPILED))
def test_compiled_noise_against_the_reference(benchmark) -> None:
    out = torch.empty(SHAPE)
    reference = partial(gumbel_noise_ref, 0, 0, SHAPE[0], 0, SHAPE[1], SHAPE[2])
    sides = {"ours": partial(torch.ops.pixelsr.gumbel_noise_, out, 0, 0, 0), "reference": reference}
    times = time_in_turns(benchmark, out.device, sides, rounds=15, warm_ups=2)
    assert torch.equal(out, reference())
    ratio = median_ratio(times["reference"], times["ours"])
    benchmark.extra_info["times faster than the reference"] = round(ratio, 1)
    print("\nnoise:", dict(benchmark.extra_info))
