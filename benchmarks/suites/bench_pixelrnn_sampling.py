"""Drawing pictures from a PixelRNN with the C++ engine, beside one forward pass of the same batch.

Row LSTM and Diagonal BiLSTM of 12 layers, 16 pictures of 32x32, both turn by turn: what is asked is
a picture for at most two forward passes.
"""

import statistics

import pytest
import torch

import pixelsr
from pixelsr.bench.timing import median_ratio, seconds

CHANNELS, PICTURES, SIZE, ROUNDS = 64, 16, 32, 5


@pytest.mark.parametrize("make", [pixelsr.RowLSTM, pixelsr.DiagonalBiLSTM])
def test_sampling(benchmark, make: type[pixelsr.RowLSTM] | type[pixelsr.DiagonalBiLSTM]) -> None:
    torch.manual_seed(0)
    device = torch.device("cpu")
    model = make(channels=CHANNELS).eval()
    images = torch.randint(256, (PICTURES, 3, SIZE, SIZE), dtype=torch.uint8)
    times: dict[str, list[float]] = {"drawing": [], "forward pass": []}

    def draw() -> None:
        pixelsr.sample(model, PICTURES, image_size=(SIZE, SIZE), engine="cpu")

    @torch.inference_mode()
    def forward() -> None:
        model(images)

    def measure_once() -> None:
        times["drawing"].append(seconds(device, draw))
        times["forward pass"].append(seconds(device, forward))

    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=1)
    drawing, passing = (own[-ROUNDS:] for own in times.values())
    told = benchmark.extra_info
    told["forward passes a picture"] = round(median_ratio(drawing, passing), 2)
    for name, own in (("drawing", drawing), ("forward pass", passing)):
        told[f"{name}: milliseconds a picture"] = round(1e3 * statistics.median(own) / PICTURES, 1)
    print("\n", make.__name__, dict(told))
