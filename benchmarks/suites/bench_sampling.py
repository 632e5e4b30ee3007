"""The time of 32x32 images from the paper-size model, measured as by `pixelsr bench`.

The sides are every engine that can run, the two simple loops, and one forward pass of the same
batch.
"""

from functools import partial
from statistics import median

import torch

import pixelsr
from pixelsr.bench import engine_choices, measure
from pixelsr.bench.inputs import make_batch
from pixelsr.bench.timing import seconds

SIZE, BATCHES, ROUNDS = (32, 32), (1, 4, 16), 5


def test_sampling(benchmark, device: torch.device) -> None:
    torch.manual_seed(0)
    model = pixelsr.PixelRecursiveSR().to(device)
    options = {"image_size": SIZE, "batches": BATCHES, "rounds": ROUNDS, "report": print}
    found = engine_choices(device, batch=make_batch(model, 1, SIZE))
    report = benchmark.pedantic(measure, (model, found), options)
    benchmark.extra_info["report"] = report.as_json()


def test_more_images_at_once_cost_no_more_each(benchmark, device: torch.device) -> None:
    torch.manual_seed(0)
    model = pixelsr.PixelRecursiveSR().to(device)
    few, many = (make_batch(model, size, SIZE) for size in (16, 64))
    sampler = engine_choices(device, batch=few)[0]
    ratios = []

    def measure_once() -> None:
        times = [seconds(device, partial(sampler, batch)) / len(batch) for batch in (few, many)]
        ratios.append(times[1] / times[0])

    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["time an image, 64 at once against 16"] = round(median(ratios), 2)
    print(f"\n{sampler.engine}:", dict(benchmark.extra_info))
