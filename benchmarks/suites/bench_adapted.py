"""Networks that others wrote, drawn through `pixelsr.adapt`, in turns with their own loops.

The unit is one forward pass of the network on the same batch. An author's loop takes minutes, so
one value of each row is timed and the time is multiplied by the number of columns: the cost of a
value depends on its row alone. `nothing` is a draw in which every value is known, so it takes the
time that a draw needs before its first value.
"""

import copy
from statistics import median

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr.bench.timing import median_ratio
from pixelsr.sampling.noise import gumbel_noise

from .foreign import FOREIGN, Foreign
from .turns import time_in_turns

CPU, ROUNDS, BATCHES = torch.device("cpu"), 7, (1, 16)


def draw(model: nn.Module, foreign: Foreign, n: int, **options: object) -> Tensor:
    return pixelsr.sample(model, n, image_size=foreign.size, engine="cpu", **options)


@torch.no_grad()
def check_draw(net: nn.Module, foreign: Foreign, n: int = 2) -> None:
    """Check that the network's own forward, given an image and the noise, draws that image.

    Its forward is causal, so by induction its loop would draw the same image. In float64.
    """
    net = copy.deepcopy(net).double()
    images = draw(pixelsr.adapt(net, **foreign.adapt), foreign, n)
    logits = foreign.logits(net(foreign.inputs(images).double()))
    scores = logits.flatten(2).transpose(1, 2)  # [N, H W, L]
    scores = scores + gumbel_noise(0, 0, n, 0, *scores.shape[1:], CPU)
    different = int((scores.argmax(2) != images.flatten(1)).sum())
    assert different == 0, f"not measured: {different} values are not those of the own loop"


@pytest.mark.parametrize("name", FOREIGN)
def test_planning(benchmark, name: str) -> None:
    """Time tracing, planning and proof; the first of the plans is also the first of the process."""
    foreign = FOREIGN[name]
    net, (height, width) = foreign.network(), foreign.size
    inputs = foreign.inputs(torch.zeros(1, 1, height, width, dtype=torch.uint8))

    def plan() -> None:
        pixelsr.sampling.plan(pixelsr.adapt(copy.deepcopy(net), **foreign.adapt), foreign.size)

    @torch.no_grad()
    def forward() -> None:
        net(inputs)

    times = time_in_turns(benchmark, CPU, {"plan": plan, "forward": forward}, ROUNDS, warm_ups=0)
    info = benchmark.extra_info
    info["first plan: seconds"] = round(times["plan"][0], 2)
    info["plan: seconds"] = round(median(times["plan"]), 2)
    info["plan, in forward passes"] = round(median_ratio(times["plan"], times["forward"]))
    print("\n", name, dict(info))


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("name", FOREIGN)
def test_sampling(benchmark, name: str, n: int) -> None:
    foreign = FOREIGN[name]
    net, (height, width) = foreign.network(), foreign.size
    check_draw(net, foreign)
    model = pixelsr.adapt(net, **foreign.adapt)
    images = draw(model, foreign, n)
    inputs, everything = foreign.inputs(images), torch.ones_like(images, dtype=torch.bool)

    @torch.no_grad()
    def forward() -> None:
        net(inputs)

    @torch.no_grad()
    def one_value_of_each_row() -> None:
        drawn = inputs.clone()
        for row in range(height):
            net.draw(drawn, row, width // 2)

    sides = {
        "drawing": lambda: draw(model, foreign, n),
        "forward pass": forward,
        "own loop": one_value_of_each_row,
        "nothing": lambda: draw(model, foreign, n, known=images, known_mask=everything),
    }
    times = time_in_turns(benchmark, CPU, sides, ROUNDS)
    times["own loop"] = [width * each for each in times["own loop"]]
    info = benchmark.extra_info
    info["weights"] = "published" if foreign.weights() else "random"
    info["forward passes an image"] = round(
        median_ratio(times["drawing"], times["forward pass"]), 2
    )
    info["times as fast as its own loop"] = round(median_ratio(times["own loop"], times["drawing"]))
    info["before the first value, of a draw"] = round(
        median_ratio(times["nothing"], times["drawing"]), 3
    )
    for side, own in times.items():
        info[f"{side}: milliseconds an image"] = round(1e3 * median(own) / n, 2)
    print("\n", name, n, dict(info))
