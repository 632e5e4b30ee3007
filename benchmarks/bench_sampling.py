"""A paper-size 32x32 picture: the cached sampler against the two simple loops.

Rivals, both exact: the naive loop, which runs the whole network for each of the 3,072 values, and
the row-cropped loop, which runs the conditioning network once and the prior on the rows drawn so
far. They take minutes to hours, so they are timed by their steps: the naive loop is 3,072 equal
passes; the row-cropped loop is, for each row, 96 equal passes, timed at some rows and interpolated
between. Each round takes the cached sampler and the steps of its rivals in turn.

Before the clock starts, all three draw a picture with a small float64 model of the same class, each
value from the pass that is timed later; the pictures must be equal.
"""

import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import pixelsr
from pixelsr.sampling.noise import draw, gumbel_noise
from tests.helpers import randomise

HEIGHT = WIDTH = 32
COLOURS = 3
ROWS_TIMED = (1, 8, 16, 24, 32)
ROUNDS = 3


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def cropped_loop_seconds(by_rows: dict[int, float]) -> float:
    """The row-cropped loop's time, from that of one pass with so many rows."""
    rows = np.arange(1, HEIGHT + 1)
    passes = np.interp(rows, list(by_rows), list(by_rows.values()))
    return float(passes.sum()) * WIDTH * COLOURS


def naive_pass(model: pixelsr.PixelRecursiveSR, images: Tensor, inputs: Tensor) -> Tensor:
    """What the naive loop computes for one value: all logits."""
    return model(images, inputs)


def cropped_pass(model: pixelsr.PixelRecursiveSR, images: Tensor, rows: int) -> Tensor:
    """What the row-cropped loop computes for one value: the prior's logits of the rows so far."""
    return model.prior(images[:, :, :rows])


TEMPERATURE = 0.1  # of the check: sharp, so that the past matters


@torch.inference_mode()
def draw_by_loop(
    model: pixelsr.PixelRecursiveSR, low_res: Tensor, samples: int, *, cropped: bool
) -> Tensor:
    """Whole pictures by one of the two simple loops."""
    inputs = low_res.expand(samples, -1, -1, -1)
    conditioning = model.conditioning(inputs)  # [N, L, C, H, W]
    _, levels, colours, height, width = conditioning.shape
    images = torch.zeros(samples, colours, height, width, dtype=torch.uint8)
    places = itertools.product(range(height), range(width), range(colours))
    for position, (row, col, colour) in enumerate(places):
        if cropped:
            logits = cropped_pass(model, images, row + 1) + conditioning[:, :, :, : row + 1]
        else:
            logits = naive_pass(model, images, inputs)
        noise = gumbel_noise(0, 0, samples, position, 1, levels, images.device)
        images[:, colour, row, col] = draw(logits[:, :, colour, row, col], noise[:, 0], TEMPERATURE)
    return images


def check_the_same_work() -> None:
    sizes = {"channels": 9, "layers": 3, "levels": 16}
    prior = pixelsr.GatedPixelCNN(**sizes, head_channels=12)
    conditioning = pixelsr.ConditioningNetwork(channels=4, blocks=1, levels=16)
    model = randomise(pixelsr.PixelRecursiveSR(prior, conditioning)).double().eval()
    low_res = torch.randint(16, (1, COLOURS, 2, 2), dtype=torch.uint8)
    options = {"low_res": low_res, "temperature": TEMPERATURE, "engine": "reference"}
    cached = pixelsr.sample(model, 2, **options)
    for cropped in (False, True):
        drawn = draw_by_loop(model, low_res, 2, cropped=cropped)
        assert torch.equal(drawn, cached), "the loops do not draw the cached sampler's pictures"


@pytest.mark.parametrize("samples", [1, 16])
def test_cached_reference_engine_against_the_loops(benchmark, samples: int) -> None:
    torch.manual_seed(0)
    check_the_same_work()
    model = pixelsr.PixelRecursiveSR().eval()
    low_res = torch.randint(256, (1, COLOURS, 8, 8), dtype=torch.uint8)
    images = torch.randint(256, (samples, COLOURS, HEIGHT, WIDTH), dtype=torch.uint8)
    inputs = low_res.expand(samples, -1, -1, -1)
    pixelsr.sampling.plan(model, (HEIGHT, WIDTH), (8, 8))
    times: dict[str, list[float]] = {"cached": [], "naive": [], "cropped": []}

    def cached() -> Tensor:
        return pixelsr.sample(model, samples, low_res=low_res, engine="reference")

    def measure_once() -> None:
        times["cached"].append(seconds(cached))
        with torch.inference_mode():
            steps = [seconds(lambda: naive_pass(model, images, inputs)) for _ in range(3)]
            times["naive"].append(statistics.median(steps) * HEIGHT * WIDTH * COLOURS)
            by_rows = {
                rows: min(seconds(lambda: cropped_pass(model, images, rows)) for _ in range(2))  # noqa: B023
                for rows in ROWS_TIMED
            }
        times["cropped"].append(cropped_loop_seconds(by_rows))

    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=0)
    median = {name: statistics.median(values) for name, values in times.items()}
    for rival in ("naive", "cropped"):
        ratios = [r / c for r, c in zip(times[rival], times["cached"], strict=True)]
        benchmark.extra_info[f"times faster than {rival}"] = round(statistics.median(ratios), 1)
    benchmark.extra_info["cached, seconds"] = round(median["cached"], 2)
    benchmark.extra_info["naive, seconds, from timed steps"] = round(median["naive"], 1)
    benchmark.extra_info["cropped, seconds, from timed steps"] = round(median["cropped"], 1)
    print(f"\n{samples} pictures:", dict(benchmark.extra_info))
