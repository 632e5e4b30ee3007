"""The time to draw images from a PixelRNN by the C++ engine, beside one forward pass.

The models are a Row LSTM and a Diagonal BiLSTM of 12 layers, with 16 images of 32x32, in turns. The
target is an image in the time of at most two forward passes.
"""

import statistics

import pytest
import torch

import pixelsr
from pixelsr.bench.timing import median_ratio

from .turns import time_in_turns

CHANNELS, IMAGES, SIZE, ROUNDS = 64, 16, 32, 5


@pytest.mark.parametrize("make", [pixelsr.RowLSTM, pixelsr.DiagonalBiLSTM])
def test_sampling(benchmark, make: type[pixelsr.RowLSTM] | type[pixelsr.DiagonalBiLSTM]) -> None:
    torch.manual_seed(0)
    model = make(channels=CHANNELS).eval()
    images = torch.randint(256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8)

    def draw() -> None:
        pixelsr.sample(model, IMAGES, image_size=(SIZE, SIZE), engine="cpu")

    @torch.inference_mode()
    def forward() -> None:
        model(images)

    sides = {"drawing": draw, "forward pass": forward}
    times = time_in_turns(benchmark, torch.device("cpu"), sides, ROUNDS)
    info = benchmark.extra_info
    info["forward passes an image"] = round(median_ratio(*times.values()), 2)
    for name, own in times.items():
        info[f"{name}: milliseconds an image"] = round(1e3 * statistics.median(own) / IMAGES, 1)
    print("\n", make.__name__, dict(info))
