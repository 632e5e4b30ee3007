"""The time to complete the lower half of images, beside whole images of the same batch.

The C++ engine draws both. A third side completes the images with the earlier schedule, which runs
every step in all known rows that any step needs; it gives the same images. All three take turns.
"""

import pytest
import torch

import pixelsr
from pixelsr.bench.timing import median_ratio
from pixelsr.sampling import plan
from pixelsr.sampling.plan import Plan, Schedule, macs_with_known

from .turns import time_in_turns

IMAGES, ROUNDS = 16, 7
NETWORKS: dict[str, dict[str, int]] = {
    "digits": {"channels": 24, "layers": 6, "head_channels": 64, "colors": 1, "levels": 8},
    "faces": {"channels": 48, "layers": 6, "kernel_size": 3, "head_channels": 128},
    "paper": {},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_completion(benchmark, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    torch.manual_seed(0)
    model = pixelsr.GatedPixelCNN(**NETWORKS[name]).eval()
    side = 28 if name == "digits" else 32
    shape = model.colors, side, side
    images = torch.randint(model.levels, (IMAGES, *shape), dtype=torch.uint8)
    known = torch.zeros(1, *shape, dtype=torch.bool)
    known[:, :, : side // 2] = True

    def draw(**options: torch.Tensor) -> torch.Tensor:
        return pixelsr.sample(model, IMAGES, image_size=(side, side), engine="cpu", **options)

    def half() -> torch.Tensor:
        return draw(known=images, known_mask=known.expand_as(images))

    def half_before() -> torch.Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(Schedule, "_first_rows", _of_the_plan)
            return half()

    assert torch.equal(half(), half_before())
    sides = {"whole": draw, "half": half, "before": half_before}
    whole, after, before = time_in_turns(benchmark, model.device, sides, ROUNDS).values()
    made = plan(model, (side, side))
    info = benchmark.extra_info
    info["multiply-adds, of a whole image"] = round(macs_with_known(made, ~known[0]) / made.macs, 3)
    info["time, of a whole image"] = round(median_ratio(after, whole), 3)
    info["time with every step, of a whole image"] = round(median_ratio(before, whole), 3)
    info["time, of that with every step"] = round(median_ratio(after, before), 3)
    print("\n", name, dict(info))


def _of_the_plan(schedule: Schedule, made: Plan, needed: object) -> tuple[int, ...]:
    return tuple(placed.first_row for placed in made.placed)
