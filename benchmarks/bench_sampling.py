"""32x32 pictures from the paper-size model: every engine that can run, the two simple loops, and
one forward pass of the same batch, by `pixelsr.benchmark`, as `pixelsr bench` measures them.
"""

import torch

import pixelsr
from pixelsr.benchmark import measure, samplers

SIZE, BATCHES, ROUNDS = (32, 32), (1, 4, 16), 7


def test_sampling(benchmark, device: torch.device) -> None:
    torch.manual_seed(0)
    model = pixelsr.PixelRecursiveSR().to(device)
    options = {"image_size": SIZE, "batches": BATCHES, "rounds": ROUNDS, "report": print}
    report = benchmark.pedantic(measure, (model, samplers(device)), options)
    benchmark.extra_info["report"] = report.as_json()
