"""Tests that a small hole costs only the positions that its values depend on."""

import functools

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import ops
from pixelsr.models import PixelCNN
from pixelsr.sampling import plan
from pixelsr.sampling.engines.cpu.engine import CpuEngine
from pixelsr.sampling.plan import Schedule, macs_with_known
from tests.support.engines import for_engines
from tests.support.helpers import randomize, slow
from tests.support.networks import inputs, network
from tests.support.plans import executed_macs, prefilled_macs
from tests.support.sampling import random_images, request_of

SIZE = (14, 16)


def hole(rows: slice, cols: slice, colors: slice = slice(None)) -> Tensor:
    """Return a mask that is True except in the hole, ``[1, 3, 14, 16]``."""
    known = torch.ones(1, 3, *SIZE, dtype=torch.bool)
    known[:, colors, rows, cols] = False
    return known


HOLES = {
    "middle": hole(slice(9, 11), slice(6, 9)),
    "right edge": hole(slice(8, 9), slice(14, 16)),
    "last value": hole(slice(13, 14), slice(15, 16), slice(2, 3)),
    "first value": hole(slice(0, 1), slice(0, 1), slice(0, 1)),
    "first row": hole(slice(0, 1), slice(5, 7)),
    "two": hole(slice(6, 7), slice(3, 4)) & hole(slice(12, 13), slice(9, 10)),
}


NAMES = ["PixelCNN", "GatedPixelCNN", "Dilated", "HintAbove"]


def arguments(model: nn.Module, n: int = 2) -> dict[str, object]:
    return {"n": n, "temperature": 0.5, **inputs(model, 1, SIZE)}


def with_holes(model: nn.Module, where: str) -> dict[str, object]:
    """Return the arguments of a draw with a hole, or with a hole of its own in each sample."""
    holes = where.split(" and ")
    known = random_images(model, len(holes), SIZE).cpu()
    return arguments(model) | {
        "known": known,
        "known_mask": torch.cat([HOLES[hole] for hole in holes]),
    }


@functools.cache
def expected(name: str, where: str) -> Tensor:
    model = network(name)
    return pixelsr.sample(model, method="ancestral", **with_holes(model, where))


ONE_EACH = "middle and right edge"


@for_engines(
    "name,where",
    [(name, where) for name in NAMES for where in [*HOLES, ONE_EACH]]
    + [("PixelRecursiveSR-gated", ONE_EACH)],
    triton=[("Dilated", "first row"), slow("Dilated", "right edge")],
    cuda=[(name, where) for name in ("GatedPixelCNN", "HintAbove") for where in [*HOLES, ONE_EACH]],
)
def test_the_images_are_those_of_the_whole_network(engine, name, where):
    model = engine.network(name)
    drawn = pixelsr.sample(model, engine=engine.name, **with_holes(model, where))
    if engine.is_exact:
        assert torch.equal(drawn.cpu(), expected(name, where))


@pytest.mark.skipif(ops.WHY_NOT_COMPILED is not None, reason="the C++ kernels are not built")
def test_the_cpp_engine_begins_each_step_where_the_schedule_says():
    model, known = network("GatedPixelCNN"), torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
    mask = hole(slice(9, 14), slice(0, 16))
    request = request_of(model, 1, SIZE, None, known, mask)
    engine = CpuEngine(plan(model, SIZE), request)
    begins = engine.code[engine.program.first_rows].tolist()
    assert begins == list(engine.schedule.first_rows)
    assert max(begins) == 9  # the horizontal stack
    assert len(set(begins)) > 2  # upper vertical layers begin later


@pytest.mark.parametrize("where", HOLES)
def test_the_engine_does_the_predicted_multiply_adds(where, monkeypatch):
    model = network("PixelCNN")
    made = plan(model, SIZE)
    unknown = ~HOLES[where][0]
    prefilled = prefilled_macs(made, unknown)
    executed = executed_macs(model, HOLES[where], monkeypatch, image_size=SIZE)
    assert executed == macs_with_known(made, unknown) - prefilled


def test_the_window_is_what_unknown_values_depend_on():
    """Check the window for one 7x7 and two 3x3 layers, which reach 3 + 2 rows and columns."""
    made = plan(network("PixelCNN"), SIZE)
    schedule = Schedule(made, ~HOLES["middle"][0])
    assert (schedule.first_row, schedule.cols) == (9 - 5, range(6 - 5, 9 + 5))
    last = Schedule(made, ~HOLES["last value"][0])
    assert (last.first_row, last.cols) == (13 - 5, range(15 - 5, 16))


def test_a_hole_in_a_large_image_costs_no_more_than_in_a_small_one():
    model = randomize(PixelCNN(channels=4, layers=2, head_channels=8, levels=8)).double()
    costs = []
    for size in (24, 96):
        unknown = torch.zeros(3, size, size, dtype=torch.bool)
        unknown[:, size // 2, size // 2] = True
        costs.append(macs_with_known(plan(model, (size, size)), unknown))
    assert costs[0] == costs[1]


def test_noise_and_known_values_are_those_of_the_whole_image():
    """Check that an image with a hole is completed to itself by its own noise."""
    model = network("PixelCNN")
    options = arguments(model)
    images = pixelsr.sample(model, **options)
    for mask in HOLES.values():
        again = pixelsr.sample(model, known=images, known_mask=mask.expand_as(images), **options)
        assert torch.equal(again, images)
