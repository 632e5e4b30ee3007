"""Tests of edits: the logits of a changed image, at the cost of the affected positions only."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import ops, sampling
from pixelsr.models import PixelCNN
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling import IncrementalLogits
from pixelsr.sampling.incremental import maps
from pixelsr.sampling.plan import Plan, Product
from pixelsr.sampling.plan.pointwise import BY_NAME
from tests.support.helpers import randomize
from tests.support.networks import NETWORKS, Network, inputs, network
from tests.support.sampling import random_images

SIZE = (6, 4)
ENGINES = ["reference"] if ops.WHY_NOT_COMPILED else ["reference", "cpu"]


class Uneven(Network):
    """A network that concatenates and adds channels with different receptive fields."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = MaskedConv2d(3, 6, 1, mask_type="A")
        self.wide = MaskedConv2d(3, 6, 5, mask_type="A")
        self.mix = MaskedConv2d(6, 12, 1, mask_type="B", out_parts=2)
        self.out = MaskedConv2d(12, 24, 1, mask_type="B", in_parts=2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.images(images)
        both = torch.tanh(torch.cat([self.narrow(x), self.wide(x)], 1))
        narrow, _ = both.chunk(2, 1)
        return self.logits(self.out(both * torch.sigmoid(self.mix(narrow) + both)))


class PaddedHint(Network):
    """A network whose conditioning features have one column more than the image."""

    scale_factor = 2

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 6, 2, stride=2)
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        hint = F.pad(self.up(self.images(low_res)), (0, 1), value=1.0)
        first = self.first(F.pad(self.images(images), (0, 1)))
        return self.logits(self.out(torch.tanh(first + hint))[..., :-1])


def make(name: str) -> nn.Module:
    own = {"Uneven": Uneven, "PaddedHint": PaddedHint}
    return randomize(own[name]()).double() if name in own else network(name)


def others(model: nn.Module, images: Tensor) -> Tensor:
    """Return images that differ from `images` everywhere."""
    step = torch.randint(1, model.levels, images.shape, dtype=torch.uint8)
    return ((images.int() + step) % model.levels).to(torch.uint8)


def small_images(model: nn.Module, n: int = 2) -> dict[str, Tensor]:
    what = inputs(model, count=n, size=SIZE)
    return {"low_res": what["low_res"]} if "low_res" in what else {}


@torch.no_grad()
def check(state: IncrementalLogits, model: nn.Module, images: Tensor, **low_res: Tensor) -> None:
    """Check that the state holds these images, and their logits by one forward pass."""
    assert torch.equal(state.images, images)
    torch.testing.assert_close(state.logits, model(images, **low_res), rtol=1e-12, atol=1e-12)


def scattered(images: Tensor, share: float) -> Tensor:
    return torch.rand(images.shape) < share


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [*NETWORKS, "Uneven", "PaddedHint"])
def test_edits_in_any_order_equal_a_fresh_forward_pass(name, engine):
    torch.manual_seed(0)
    model = make(name)
    images, low_res = random_images(model, 3), small_images(model, 3)
    state = sampling.incremental_logits(model, images, engine=engine, **low_res)
    check(state, model, images, **low_res)
    for seed, share in enumerate((0.03, 0.1, 0.01, 0.5, 1)):
        values, mask = random_images(model, 3, seed=10 + seed), scattered(images, share)
        state.edit(values, mask)
        images = torch.where(mask, values, images)
        check(state, model, images, **low_res)


@pytest.mark.parametrize("name", ["Dilated", "GatedPixelCNN", "PixelCNN-2-colors-5x5"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 7)])
def test_odd_sizes_are_equal_too(name, size):
    torch.manual_seed(0)
    model = network(name)
    images = random_images(model, size=size)
    state = sampling.incremental_logits(model, images)
    for seed in range(3):
        values = random_images(model, size=size, seed=10 + seed)
        mask = scattered(images, 0.2)
        state.edit(values, mask)
        images = torch.where(mask, values, images)
        check(state, model, images)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["PixelCNN", "GatedPixelCNN", "Dilated"])
def test_single_pixels_of_images_larger_than_what_they_reach(name, engine):
    torch.manual_seed(0)
    model = network(name)
    images = random_images(model, 3, (24, 26))
    state = sampling.incremental_logits(model, images, engine=engine)
    for positions in ([(0, 0)], [(23, 25)], [(11, 12)], [(5, 25), (9, 20)], [(0, 13), (20, 0)]):
        mask = torch.zeros_like(images, dtype=torch.bool)
        for sample, (row, col) in enumerate(positions, start=3 - len(positions)):
            mask[sample, :, row, col] = True
        images = torch.where(mask, others(model, images), images)
        state.edit(images, mask)
        check(state, model, images)


def test_images_larger_than_what_is_gathered_at_once_are_equal_too(monkeypatch):
    monkeypatch.setattr(maps, "_POSITIONS_AT_ONCE", 7)
    model = network("PixelCNN")
    images = random_images(model)
    state = sampling.incremental_logits(model, images)
    check(state, model, images)
    new = others(model, images)
    state.edit(new, torch.ones_like(images, dtype=torch.bool))
    check(state, model, new)


# The cost of an edit.


def predicted_macs(old: IncrementalLogits, new: IncrementalLogits, plan: Plan) -> int:
    """Return the multiply-adds of each channel at every position where two states differ."""
    total = 0
    for placed in plan.placed:
        step = placed.step
        if isinstance(step, Product) and step.src:
            a, b = (state._engine.map(step.out.buffer) for state in (old, new))
            differ = (a != b)[..., step.out.first : step.out.first + step.out.count]
            total += int(differ.sum()) * step.macs // step.out.count
    return total


LINEAR = ("relu", "tanh", "sigmoid", "elu")


@pytest.mark.parametrize("name", [*NETWORKS, "Uneven"])
def test_an_edit_costs_the_channels_that_it_can_change(name, monkeypatch):
    """Check the cost with linear functions, so that every affected value differs."""
    for function in LINEAR:
        linear = dataclasses.replace(BY_NAME[function], eager=lambda x, *_: x)
        monkeypatch.setitem(BY_NAME, function, linear)
    torch.manual_seed(0)
    model = make(name)
    images, low_res = random_images(model), small_images(model)
    low_res["engine"] = "reference"  # the patched functions are its own
    state = sampling.incremental_logits(model, images, **low_res)
    plan = state._plan
    assert state.macs == 2 * plan.macs
    for share in (0, 0.02, 0.1):
        mask = scattered(images, share)
        mask[0, -1, 2, 1] = True  # one color of a pixel in one image
        new = torch.where(mask, others(model, images), images)
        state.edit(new, mask)
        before = sampling.incremental_logits(model, images, **low_res)
        after = sampling.incremental_logits(model, new, **low_res)
        assert state.macs == predicted_macs(before, after, plan) < 2 * plan.macs
        images = new


def reached(layer: MaskedConv2d, changed: Tensor) -> Tensor:
    """Return the outputs of a layer that read a changed input, bool ``[N, out, H, W]``."""
    taps = layer.mask().double()
    padded = F.conv2d(changed.double(), taps, padding=layer.padding, dilation=layer.dilation)
    return padded > 0


def cost(layer: MaskedConv2d, outputs: Tensor) -> int:
    """Return the live multiply-adds of some of a layer's outputs, bool ``[N, out, H, W]``."""
    return int((layer.mask().sum((1, 2, 3)) * outputs.sum((0, 2, 3))).sum())


def pixelcnn_macs(model: PixelCNN, changed: Tensor) -> int:
    """Return the multiply-adds that a PixelCNN needs after changed values, layer by layer."""
    stream = reached(model.first, changed)
    total = cost(model.first, stream)
    for block in model.blocks:
        down = reached(block.down, stream)
        conv = reached(block.conv, down)
        stream = stream | reached(block.up, conv)
        total += cost(block.down, down) + cost(block.conv, conv) + cost(block.up, stream)
    hidden = reached(model.head.hidden, stream)
    return (
        total
        + cost(model.head.hidden, hidden)
        + cost(model.head.out, reached(model.head.out, hidden))
    )


@pytest.mark.parametrize("name", ["PixelCNN", "PixelCNN-2-colors-5x5"])
def test_an_edit_costs_the_live_taps_of_its_receptive_field(name):
    torch.manual_seed(0)
    model = network(name)
    images = random_images(model, size=(12, 9))
    state = sampling.incremental_logits(model, images)
    for share in (0.002, 0.01, 0.1):
        mask = scattered(images, share)
        state.edit(others(model, images), mask)
        assert state.macs == pixelcnn_macs(model, mask)
        images = state.images.clone()


def test_the_multiply_adds_are_those_that_are_done(monkeypatch):
    done = []

    model = network("GatedPixelCNN")
    images = random_images(model)
    state = sampling.incremental_logits(model, images)
    run = state._engine.run

    def counting(work: maps.Work) -> None:
        done.extend(state._cells.cells[cell].macs * len(positions) for cell, positions in work)
        run(work)

    monkeypatch.setattr(state._engine, "run", counting)
    state.edit(others(model, images), scattered(images, 0.1))
    assert state.macs == sum(done) > 0


def test_one_pixel_of_64x64_costs_a_small_part_of_the_forward_pass():
    model = randomize(PixelCNN(channels=4, layers=5, head_channels=8, levels=8)).double()
    images = random_images(model, 1, (64, 64))
    state = sampling.incremental_logits(model, images)
    forward, mask = state.macs, torch.zeros_like(images, dtype=torch.bool)
    mask[:, :, 20, 30] = True
    state.edit(others(model, images), mask)
    assert 0 < state.macs < forward / 30
    check(state, model, state.images)


@pytest.mark.parametrize("name", ["PixelCNN", "GatedPixelCNN"])
def test_the_last_value_of_an_image_is_read_by_none(name):
    model = network(name)
    images = random_images(model)
    state = sampling.incremental_logits(model, images)
    mask = torch.zeros_like(images, dtype=torch.bool)
    mask[:, -1, -1, -1] = True
    state.edit(others(model, images), mask)
    assert state.macs == 0
    check(state, model, state.images)
    mask[:, 0, -1, -1] = True  # only green and blue of the same pixel read red
    state.edit(others(model, state.images), mask)
    assert state.macs > 0
    check(state, model, state.images)


@pytest.mark.parametrize("mask_all", [False, True])
def test_an_edit_that_changes_nothing_costs_nothing(mask_all):
    model = network("GatedPixelCNN")
    images = random_images(model)
    state = sampling.incremental_logits(model, images)
    before, mask = state.logits.clone(), torch.full(images.shape, mask_all)
    state.edit(images if mask_all else others(model, images), mask)
    assert state.macs == 0
    assert torch.equal(state.logits, before)
    assert torch.equal(state.images, images)


def test_only_values_that_are_others_count():
    model = network("PixelCNN")
    images = random_images(model)
    one, two = (
        sampling.incremental_logits(model, images),
        sampling.incremental_logits(model, images),
    )
    mask = torch.zeros_like(images, dtype=torch.bool)
    mask[1, 1, 2, 2] = True
    new = torch.where(mask, others(model, images), images)
    one.edit(new, mask)
    two.edit(new, ~mask | mask)
    assert one.macs == two.macs > 0
    assert torch.equal(one.logits, two.logits)


def test_one_edit_serves_all_images():
    model = network("GatedPixelCNN")
    images = random_images(model, 3)
    state = sampling.incremental_logits(model, images)
    values, mask = random_images(model, 1, seed=3), scattered(images[:1], 0.1)
    state.edit(values, mask)
    check(state, model, torch.where(mask, values, images))


# Kept state and refused arguments.


class GreenFromAbove(Network):
    """A network that knows green's logits first, so that the plan has them before red's."""

    def __init__(self) -> None:
        super().__init__()
        self.above = MaskedConv2d(3, 24, 3, mask_type="V-first")
        self.left = MaskedConv2d(3, 24, 3, mask_type="A")

    def forward(self, images: Tensor) -> Tensor:
        x = self.images(images)
        red, _, blue = self.left(x).chunk(3, 1)
        _, green, _ = self.above(x).chunk(3, 1)
        return self.logits(torch.cat([red, green, blue], 1))


def test_colors_may_stand_in_another_order_in_the_plan():
    model = randomize(GreenFromAbove()).double()
    images = random_images(model)
    state = sampling.incremental_logits(model, images)
    assert [span.first for span in state._plan.logits] == [8, 0, 16]
    new = others(model, images)
    state.edit(new, torch.ones_like(images, dtype=torch.bool))
    check(state, model, new)


def test_the_images_given_are_not_changed():
    model = network("PixelCNN")
    images = random_images(model)
    given = images.clone()
    state = sampling.incremental_logits(model, images)
    state.edit(others(model, images), torch.ones_like(images, dtype=torch.bool))
    assert torch.equal(images, given)


def test_the_weights_are_those_of_evaluate():
    model = network("PixelCNN")
    images = random_images(model)
    new, everywhere = others(model, images), torch.ones_like(images, dtype=torch.bool)
    expected = model(new).detach()
    state = sampling.incremental_logits(model, images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    state.edit(new, everywhere)
    torch.testing.assert_close(state.logits, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_logits_have_the_dtype_of_the_cached_path(dtype):
    model = network("GatedPixelCNN", dtype)
    images = random_images(model)
    state, expected = sampling.incremental_logits(model, images), sampling.logits(model, images)
    torch.testing.assert_close(state.logits, expected, rtol=1e-5, atol=1e-5)
    assert not state.logits.requires_grad


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": [1]}, "images must be a uint8 tensor, got list"),
        ({"images": torch.zeros(2, 3, 6, 4)}, r"images must be uint8 \[N, 3, h, w\].*float32"),
        ({"images": torch.full((2, 3, 6, 4), 8, dtype=torch.uint8)}, "images holds the value 8"),
        ({"engine": "fast"}, "engine must be auto or one of"),
        ({"engine": "cuda"}, "engine 'cuda' cannot run"),
        ({"low_res": torch.zeros(2, 3, 3, 2, dtype=torch.uint8)}, "PixelCNN takes no low_res"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(change, says):
    model = network("PixelCNN")
    arguments = {"images": random_images(model), **change}
    with pytest.raises((ValueError, TypeError), match=says):
        sampling.incremental_logits(model, **arguments)


def test_a_small_image_is_asked_for_each_image():
    model = network("PixelRecursiveSR-gated")
    with pytest.raises(ValueError, match="low_res must hold 3 images, got 2"):
        sampling.incremental_logits(model, random_images(model, 3), **small_images(model, 2))
    with pytest.raises(ValueError, match="PixelRecursiveSR needs low_res"):
        sampling.incremental_logits(model, random_images(model, 3))


VALUES = torch.zeros(2, 3, 6, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("values", "mask", "says"),
    [
        (0, VALUES.bool(), "values must be a uint8 tensor, got int"),
        (VALUES.int(), VALUES.bool(), r"values must be uint8 \[N, 3, 6, 4\].*int32"),
        (VALUES[:, :, :5], VALUES.bool(), r"values must be uint8 \[N, 3, 6, 4\].*2, 3, 5, 4"),
        (VALUES.repeat(2, 1, 1, 1), VALUES.bool(), "values must hold 1 or 2 images, got 4"),
        (VALUES, True, "mask must be a bool tensor, got bool"),
        (VALUES, VALUES, r"mask must be bool \[2, 3, 6, 4\], got torch.uint8"),
        (VALUES, VALUES.bool()[:1], r"mask must be bool \[2, 3, 6, 4\], got torch.bool \[1"),
        (VALUES + 8, ~VALUES.bool(), "values holds the value 8; the model has 8 levels"),
    ],
)
def test_what_is_no_edit_is_refused_and_changes_nothing(values, mask, says):
    model = network("PixelCNN")
    images = random_images(model)
    state = sampling.incremental_logits(model, images)
    with pytest.raises((ValueError, TypeError), match=says):
        state.edit(values, mask)
    check(state, model, images)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["PixelCNN", "PixelRecursiveSR-gated"])
def test_a_state_made_in_inference_mode_is_edited_outside_of_it(name, engine):
    model = network(name)
    with torch.inference_mode():
        images, low_res = random_images(model), small_images(model)
        state = sampling.incremental_logits(model, images, engine=engine, **low_res)
    new = others(model, images)
    state.edit(new, torch.ones_like(new, dtype=torch.bool))
    check(state, model, new, **low_res)
    with torch.inference_mode():
        state.edit(images, torch.ones_like(new, dtype=torch.bool))
    check(state, model, images, **low_res)


def test_values_that_are_not_taken_may_be_anything():
    model = network("PixelCNN")
    images = random_images(model)
    state = sampling.incremental_logits(model, images)
    state.edit(VALUES + 255, VALUES.bool())
    check(state, model, images)
