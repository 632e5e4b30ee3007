"""The time of a draw before its first value, in turns with forward passes.

A new plan is made and checked once; later draws compare the network with the one that the plan was
made for. `forward` is a forward pass in float64, the dtype of the check, on as many images as the
check draws. `draw` is one image drawn by the C++ engine.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import pixelsr
from pixelsr.bench.timing import median_ratio
from pixelsr.sampling import plan
from pixelsr.sampling.plan_cache import plan_of
from pixelsr.sampling.plan_check import check_plan
from pixelsr.sampling.random_weights import randomize
from pixelsr.sampling.request import make_request

from .turns import time_in_turns

ROUNDS, SIDE = 7, 32


class Traced(pixelsr.GatedPixelCNN):
    """The paper's prior with a `forward` outside the library, so each draw follows it."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return logits


MODELS = {
    "PixelRecursiveSR": pixelsr.PixelRecursiveSR,
    "GatedPixelCNN": pixelsr.GatedPixelCNN,
    "Traced": Traced,
}


@torch.inference_mode()
@pytest.mark.parametrize("name", MODELS)
def test_before_the_first_value(benchmark, name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    takes_low_res = name == "PixelRecursiveSR"
    low_res_size = (SIDE // 4, SIDE // 4) if takes_low_res else None
    images, low_res = (
        torch.randint(256, (2 if takes_low_res else 1, 3, side, side), dtype=torch.uint8)
        for side in (SIDE, SIDE // 4)
    )
    double = copy.deepcopy(model).double()
    made = plan(model, (SIDE, SIDE), low_res_size)
    random = randomize(copy.deepcopy(model))
    request = make_request(
        model, image_size=(SIDE, SIDE), low_res=low_res[:1] if takes_low_res else None
    )

    def draw() -> Tensor:
        source = {"low_res": low_res[:1]} if takes_low_res else {"image_size": (SIDE, SIDE)}
        return pixelsr.sample(model, 1, **source, engine="cpu")

    sides: dict[str, Callable[[], object]] = {
        "forward": lambda: double(images, low_res) if takes_low_res else double(images),
        "check": lambda: check_plan(made, random, model, request.low_res),
        "comparison": lambda: plan_of(request),
        "draw": draw,
    }
    times = time_in_turns(benchmark, model.device, sides, ROUNDS)
    info = benchmark.extra_info
    info["check, in forward passes"] = round(median_ratio(times["check"], times["forward"]), 2)
    info["comparison, of a draw"] = round(median_ratio(times["comparison"], times["draw"]), 3)
    print("\n", name, dict(info), {key: round(min(own), 3) for key, own in times.items()})
