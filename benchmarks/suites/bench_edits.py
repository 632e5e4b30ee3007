"""The time of an edit of one pixel that updates the logits, in turns with one forward pass.

The image has 64x64 pixels, and the network has five masked 3x3 layers of 64 channels. The last
layer gives the logits. With 256 levels, as images have them, these are 768 maps. With 4 levels they
are 12 maps: the least favorable case, because the overhead of an edit weighs most there.
"""

import statistics

import pytest
import torch
from torch import Tensor, nn

from pixelsr import functional, sampling
from pixelsr.bench.timing import seconds
from pixelsr.nn import MaskedConv2d

COLORS, SIZE, CHANNELS = 3, (64, 64), 64
ROUNDS = 15


class Network(nn.Module):
    """Five 3x3 layers, the last of which gives the logits."""

    colors = COLORS

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        first = MaskedConv2d(COLORS, CHANNELS, 3, mask_type="A")
        others = [MaskedConv2d(CHANNELS, CHANNELS, 3, mask_type="B") for _ in range(3)]
        activated = [part for layer in (first, *others) for part in (layer, nn.ReLU())]
        self.layers = nn.Sequential(
            *activated, MaskedConv2d(CHANNELS, COLORS * levels, 3, mask_type="B")
        )

    def forward(self, images: Tensor) -> Tensor:
        x = functional.normalize_images(images, COLORS, self.levels, self.layers[0].weight.dtype)
        return functional.to_logits(self.layers(x), COLORS, self.levels)


def one_pixel(levels: int) -> tuple[Tensor, Tensor]:
    """Return random values, and a mask of one random pixel."""
    row, col = (int(torch.randint(side, ())) for side in SIZE)
    mask = torch.zeros(1, COLORS, *SIZE, dtype=torch.bool)
    mask[:, :, row, col] = True
    return torch.randint(levels, mask.shape, dtype=torch.uint8), mask


@torch.inference_mode()
@pytest.mark.parametrize("levels", [256, 4])
@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_an_edit_against_the_forward_pass(
    benchmark, device: torch.device, engine: str, levels: int
) -> None:
    if why := sampling.engines.unsupported_reason(engine, device):
        pytest.skip(why)
    torch.manual_seed(0)
    model = Network(levels).eval().to(device)
    images = torch.randint(levels, (1, COLORS, *SIZE), dtype=torch.uint8, device=device)
    state = sampling.incremental_logits(model, images, engine=engine)
    ratios = []

    def measure_once() -> None:
        edit = seconds(device, state.edit, *one_pixel(levels))
        ratios.append(seconds(device, model, state.images) / edit)

    for _ in range(5):
        state.edit(*one_pixel(levels))
        torch.testing.assert_close(state.logits, model(state.images), rtol=1e-4, atol=1e-4)
    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=2)
    benchmark.extra_info["times faster than the forward pass"] = round(statistics.median(ratios), 1)
    print(f"\n{engine}, {levels} levels:", dict(benchmark.extra_info))
