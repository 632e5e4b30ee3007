"""Tests of when features are known: frames of shifted maps, and what is read too early."""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pixelsr
from pixelsr import ops
from pixelsr.errors import NotCausal
from pixelsr.sampling import plan
from pixelsr.sampling.plan.operations import build
from pixelsr.sampling.plan.tape import run
from pixelsr.sampling.plan.timing import Timing
from tests.support.helpers import randomize
from tests.support.networks import Network

SIZES = [(5, 4), (3, 6), (4, 1), (1, 4), (1, 1)]
ENGINES = ["reference"] if ops.WHY_NOT_COMPILED else ["reference", "cpu"]


def moved(x: Tensor, down: int, right: int) -> Tensor:
    """Return a map whose position (y, x) shows (y - down, x - right), with zeros around."""
    height, width = x.shape[2:]
    x = F.pad(x, (abs(right), abs(right), abs(down), abs(down)))
    top, left = abs(down) - down, abs(right) - right
    return x[:, :, top : top + height, left : left + width]


class Shifted(Network):
    """A network whose layer `conv` is unpadded, between functions of its input and its result."""

    def __init__(
        self,
        kernel: tuple[int, int],
        before: Callable[[Tensor], Tensor],
        after: Callable[[Tensor], Tensor],
        between: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, kernel)
        self.before, self.after, self.between = before, after, between or nn.Tanh()
        self.out = nn.Conv2d(6, 24, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.after(self.between(self.conv(self.before(self.images(images)))))
        return self.logits(self.out(x))


def timing(model: nn.Module, size: tuple[int, int]) -> Timing:
    images = torch.zeros(1, model.colors, *size, dtype=torch.uint8)
    graph = build(run(randomize(model), images), model.colors, model.levels, size)
    return Timing(graph, model.colors, model.levels)


def frames(model: nn.Module, size: tuple[int, int] = SIZES[0]) -> dict[str, tuple[int, int]]:
    """Return the frames of a network's maps by the name of the operation, but for the image's."""
    made = timing(model, size)
    maps = [each for each in made.graph.maps if made.needed[each.number] and each.entry >= 0]
    return {made.graph.entries[each.entry].name: made.frames[each.number] for each in maps}


def pad(*sides: int) -> Callable[[Tensor], Tensor]:
    """Return a function that pads the left, right, top and bottom."""
    return lambda x: F.pad(x, sides)


CAUSAL = {
    "rows above": ((2, 3), pad(1, 1, 2, 0), lambda x: x[:, :, :-1]),
    "pixels to the left": ((1, 2), pad(2, 0, 0, 0), lambda x: x[..., :-1]),
    "moved before": ((1, 2), lambda x: F.pad(moved(x, 0, 1), (1, 0)), lambda x: x),
    "rows, moved after": ((2, 3), pad(1, 1, 1, 0), lambda x: moved(x, 1, 0)),
    "pixels, moved after": ((1, 2), pad(1, 0, 0, 0), lambda x: moved(x, 0, 1)),
    "padded after": ((3, 3), pad(1, 1, 0, 2), lambda x: F.pad(x, (0, 0, 3, 0))[:, :, :-3]),
    "cropped on top": ((1, 3), pad(1, 1, 2, 0), lambda x: x[:, :, 1:-1]),
    "far to the left": ((1, 1), pad(3, 0, 0, 0), lambda x: x[..., :-3]),
    "left of the row above": ((1, 1), lambda x: x, lambda x: moved(x, 1, 2)),
    "right of the row above": ((1, 1), lambda x: x, lambda x: moved(x, 1, -2)),
    "moved there and back": ((1, 1), lambda x: moved(x, 0, 2), lambda x: moved(x, 0, -1)),
    "moved up and down": ((1, 1), lambda x: moved(x, -2, 0), lambda x: moved(x, 3, 0)),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CAUSAL)
def test_shifts_pads_and_crops_are_drawn_as_the_network_computes(name, size, engine):
    model = randomize(Shifted(*CAUSAL[name])).double()
    drawn = pixelsr.sample(model, 2, image_size=size, engine=engine)
    assert torch.equal(drawn, pixelsr.sample(model, 2, image_size=size, method="ancestral"))


LATER = {"rows, moved after": 1, "padded after": 3, "moved up and down": 3}
"""The number of rows by which a layer is computed later, so that the last rows are never read."""


@pytest.mark.parametrize("name", CAUSAL)
def test_each_position_is_computed_once_if_it_is_read(name):
    model = Shifted(*CAUSAL[name])
    height, width = SIZES[0]
    conv = (height - LATER.get(name, 0)) * model.conv.weight.numel()
    assert plan(randomize(model), (height, width)).macs == width * (conv + height * 24 * 6)


def test_a_map_is_computed_at_its_own_position_if_that_is_known():
    own = Shifted((1, 1), pad(0, 0, 0, 0), lambda x: moved(x, 0, 1))
    assert frames(own)["convolution"] == frames(own)["tanh"] == (0, 0)
    above = Shifted((2, 3), pad(1, 1, 2, 0), lambda x: x[:, :, :-1])
    assert frames(above)["convolution"] == (0, 0)


def test_a_map_that_needs_its_whole_row_is_computed_a_row_later():
    model = Shifted((1, 3), pad(1, 1, 0, 0), lambda x: moved(x, 1, 0))
    assert set(frames(model).values()) == {(0, 0), (1, 0)}
    assert frames(model)["tanh"] == (1, 0)
    two = Shifted((3, 3), pad(1, 1, 1, 1), lambda x: moved(x, 2, 0))
    assert frames(two)["tanh"] == (2, 0)


def test_a_map_that_needs_pixels_to_the_right_is_computed_columns_later():
    model = Shifted((1, 2), pad(0, 1, 0, 0), lambda x: moved(x, 0, 2))
    (row, col) = frames(model)["tanh"]
    assert row == 0
    assert col in (1, 2)


def test_times_are_those_of_the_latest_live_tap():
    model = Shifted((2, 3), pad(1, 1, 2, 0), lambda x: x[:, :, :-1])
    model.conv.weight.data[:3, :, 1] = 0
    images = torch.zeros(1, 3, 5, 4, dtype=torch.uint8)
    made = Timing(build(run(model, images), 3, 8, (5, 4)), 3, 8)
    [number] = [each.number for each in made.graph.maps if each.channels == 6][:1]
    times = made.times[number]
    assert len(set(times[:3].tolist())) == len(set(times[3:].tolist())) == 1
    assert times[0] < times[3] < 0


# Causality.


class OneValue(Network):
    """A network whose logits read one color of one pixel."""

    def __init__(self, down: int, right: int, color: int) -> None:
        super().__init__()
        self.where = down, right, color
        self.out = nn.Conv2d(1, 24, 1)

    def forward(self, images: Tensor) -> Tensor:
        down, right, color = self.where
        x = moved(self.images(images)[:, color : color + 1], -down, -right)
        return self.logits(self.out(x))


OFFSETS = list(itertools.product((-1, 0, 1), (-1, 0, 1), range(3)))


@pytest.mark.parametrize(("row", "col", "color"), OFFSETS)
def test_a_value_is_read_exactly_if_it_is_drawn_before(row, col, color):
    model = randomize(OneValue(row, col, color)).double()
    if (row, col) < (0, 0):
        drawn = pixelsr.sample(model, 2, image_size=(4, 3))
        assert torch.equal(drawn, pixelsr.sample(model, 2, image_size=(4, 3), method="ancestral"))
        return
    place = f"the pixel at row {row:+d}, column {col:+d}"
    place = "their own pixel" if (row, col) == (0, 0) else place
    with pytest.raises(NotCausal) as caught:
        plan(model, (4, 3))
    said = f"the logits of color 0 read color {color} of {place}: through convolution of layer out"
    assert str(caught.value).startswith(said)


def test_the_first_color_that_reads_too_much_is_named():
    model = randomize(OneValue(0, 0, 1))
    model.out.weight.data[:16] = 0  # colors 0 and 1 read nothing; color 2 reads color 1
    frozen = randomize(OneValue(0, 0, 2))
    for each, weights in ((model, 16), (frozen, 8)):
        mask = torch.ones_like(each.out.weight)
        mask[:weights] = 0
        nn.utils.parametrize.register_parametrization(each.out, "weight", Masked(mask))
    assert plan(model.double(), (4, 3)).macs == 12 * 8
    with pytest.raises(NotCausal, match="the logits of color 1 read color 2 of their own pixel"):
        plan(frozen.double(), (4, 3))


class Masked(nn.Module):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


RIGHT = "color 2 of the pixel at row +0, column +1"
FUTURE = {
    "not shifted": (
        (2, 3),
        pad(1, 1, 1, 0),
        lambda x: x,
        RIGHT,
    ),
    "cropped on the wrong side": (
        (2, 3),
        pad(1, 1, 2, 0),
        lambda x: x[:, :, 1:],
        RIGHT,
    ),
    "padded on the wrong side": (
        (1, 2),
        pad(0, 2, 0, 0),
        lambda x: x[..., :-1],
        RIGHT,
    ),
    "moved the wrong way": (
        (1, 1),
        lambda x: x,
        lambda x: moved(x, -1, 1),
        "color 2 of the pixel at row +1, column -1",
    ),
    "moved too little": (
        (3, 3),
        pad(1, 1, 1, 1),
        lambda x: moved(x, 1, 0),
        RIGHT,
    ),
}


@pytest.mark.parametrize("name", FUTURE)
def test_a_shift_that_is_missing_or_wrong_is_named(name):
    *what, says = FUTURE[name]
    with pytest.raises(NotCausal) as caught:
        plan(randomize(Shifted(*what)), (5, 4))
    assert str(caught.value).startswith(f"the logits of color 0 read {says}: through convolution")
    assert "convolution of layer conv" in str(caught.value)
