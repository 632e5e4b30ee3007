"""Tests of the plan: it computes every multiply-add once, and proves causality."""

import threading
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.errors import PlanError
from pixelsr.masks import causal_mask
from pixelsr.models import GatedPixelCNN, PixelCNN, PixelRecursiveSR
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling import logits, plan
from pixelsr.sampling.plan import Schedule, macs_with_known
from tests.support.helpers import randomize
from tests.support.networks import NETWORKS, Network, inputs, network
from tests.support.plans import executed_macs, make_plan, prefilled_macs


def live_taps(model: nn.Module, low_res: Tensor | None = None) -> int:
    """Return the live multiply-adds of a forward pass per pixel, counted from the masks."""
    total = 0

    def count(layer: nn.Conv2d, *_: object) -> None:
        nonlocal total
        if not isinstance(layer, MaskedConv2d):
            total += layer.weight.numel()
            return
        parts = {name: getattr(layer, name) for name in ("colors", "in_parts", "out_parts")}
        out, into, *kernel = layer.weight.shape
        mask = causal_mask(into, out, tuple(kernel), mask_type=layer.mask_type, **parts)
        total += int(mask.sum())

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    images = torch.zeros(1, model.colors, 6, 4, dtype=torch.uint8)
    model(images) if low_res is None else model(images, low_res)
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("name", NETWORKS)
def test_plan_counts_the_live_multiply_adds_of_one_forward_pass(name):
    model = network(name)
    is_sum = isinstance(model, PixelRecursiveSR)
    taps = live_taps(model.prior) if is_sum else live_taps(model, inputs(model).get("low_res"))
    assert make_plan(model).macs == 6 * 4 * taps


@pytest.mark.parametrize("make", [GatedPixelCNN, PixelCNN, PixelRecursiveSR])
def test_paper_size_plan_counts_the_live_multiply_adds(make):
    model = make()
    made = make_plan(model, (32, 32))
    assert made.macs == 32 * 32 * live_taps(getattr(model, "prior", model))


def known_masks(colors: int) -> dict[str, Tensor]:
    nothing = torch.zeros(1, colors, 6, 4, dtype=torch.bool)
    rows, hole, end, scattered = (nothing.clone() for _ in range(4))
    rows[:, :, [2, 3]] = True
    hole[:] = True
    hole[:, :, 3:5, 1:3] = False
    end[:, :, 4:] = True
    end[:, -1, 3, 3] = True
    scattered[:] = torch.rand(nothing.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    scattered[:, :, 0] = False
    return {"nothing": nothing, "rows": rows, "hole": hole, "end": end, "scattered": scattered}


@pytest.mark.parametrize("mask", known_masks(3))
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelCNN", "PixelRecursiveSR-gated", "Dilated"])
def test_engine_does_the_predicted_multiply_adds(name, mask, monkeypatch):
    model, known_mask = network(name), known_masks(3)[mask]
    made = make_plan(model)
    predicted = macs_with_known(made, ~known_mask[0])
    prefilled = prefilled_macs(made, ~known_mask[0])
    assert (prefilled > 0) == (mask == "hole")
    assert executed_macs(model, known_mask, monkeypatch) == predicted - prefilled
    assert predicted <= made.macs


def test_known_leading_rows_cost_what_the_rows_below_read_of_them():
    """Check the rows that are read above the first unknown row.

    The horizontal stack is read only in its own row; a layer of the vertical stack is read 3 rows
    or 1 row up.
    """
    made = make_plan(network("GatedPixelCNN"), (12, 4))
    unknown = torch.zeros(3, 12, 4, dtype=torch.bool)
    unknown[:, 8:] = True
    begins = dict.fromkeys(range(9), 0)
    for placed, first in zip(made.placed, Schedule(made, unknown).first_rows, strict=True):
        begins[first] += placed.step.macs
    horizontal = sum(p.step.macs for p in made.placed if p.logits_only or p.when != "row")
    assert begins[8] > horizontal
    assert 0 < begins[8] < sum(begins.values())
    assert sum(begins[row] for row in range(4)) == 0
    core = sum(placed.step.macs for placed in made.placed if not placed.logits_only)
    assert 0 < prefilled_macs(made, unknown) < 8 * 4 * core / 4


def test_nothing_known_costs_the_whole_pass():
    made = make_plan(network("GatedPixelCNN"))
    unknown = torch.ones(3, 6, 4, dtype=torch.bool)
    moments = made.moments(made.placed, lambda placed: placed)
    last_stage = sum(placed.step.macs for placed in moments.colors[3][True])
    assert macs_with_known(made, unknown) == made.macs - last_stage


def test_all_known_costs_only_what_a_prefill_would():
    made = make_plan(network("PixelCNN"))
    core = sum(placed.step.macs for placed in made.placed if not placed.logits_only)
    assert macs_with_known(made, torch.zeros(3, 6, 4, dtype=torch.bool)) == 6 * 4 * core


def test_cached_rows_do_not_grow_with_the_height():
    model = network("GatedPixelCNN")
    tall, short = plan(model, (64, 4)), plan(model, (8, 4))
    rows = {name: buffer.rows for name, buffer in short.buffers.items()}
    assert rows == {name: buffer.rows for name, buffer in tall.buffers.items()}
    assert max(rows.values()) == 4  # three rows above, for the first 7x7 layer


def test_plan_is_made_once_for_a_size():
    model = network("PixelCNN")
    assert plan(model, (6, 4)) is plan(model, (6, 4))
    assert plan(model, (6, 4)) is not plan(model, (4, 6))


class Faulty(Network):
    """One masked convolution before the logits, with a fault in between."""

    def __init__(self, wrong: nn.Module, mask_type: str = "A") -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 6, 3, mask_type=mask_type)
        self.wrong = wrong
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.wrong(self.first(self.images(images)))))


class FlippedColumns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(3)


class Upsampled(Network):
    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 24, 3, mask_type="A")

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(self.images(images))
        return x.view(x.shape[0], 3, 8, x.shape[2], x.shape[3]).transpose(1, 2)


class RawArithmetic(Upsampled):
    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.first((1 - images).double()))


class TwoResults(Upsampled):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.logits(self.first(self.images(images)))
        return x, x


class OtherLevels(Upsampled):
    levels = 9

    def forward(self, images: Tensor) -> Tensor:
        return functional.to_logits(self.first(self.images(images)), 3, 8)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            Faulty(nn.Conv2d(6, 6, 3, padding=1)),
            r"layer wrong reads the future.*row \+0, column \+1",
        ),
        (Faulty(nn.Identity(), "B"), r"logits of color 0.*layer out, center tap, input channel 0"),
        (Faulty(nn.Conv2d(6, 6, 1)), r"logits of color 0.*layer out, center tap"),
        (Faulty(nn.BatchNorm2d(6)), r"does not know BatchNorm2d \(layer wrong\).*ancestral"),
        (Faulty(FlippedColumns()), r"does not know flip.*ancestral"),
        (Faulty(nn.Conv2d(6, 6, 3)), r"layer wrong changes the size"),
        (Faulty(nn.Conv2d(6, 6, 1, groups=2)), r"layer wrong: stride, groups"),
        (Faulty(nn.Dropout(0.5)).train(), r"drops features at random; call model.eval\(\) first"),
        (Faulty(nn.Conv2d(6, 6, (1, 2), padding="same")), r"layer wrong has an even kernel"),
        (Faulty(nn.Conv2d(5, 6, 1)), r"layer wrong expects 5 channels, got 6"),
        (RawArithmetic(), r"sub \(node sub\) on uint8 images would wrap around"),
        (TwoResults(), "returns a tuple, expected logits alone"),
        (OtherLevels(), "says that it has 3 colors and 9 levels, its logits have 3 and 8"),
        (Upsampled(), r"never calls pixelsr.functional.to_logits"),
    ],
)
def test_what_cannot_be_planned_is_named(model, says):
    with pytest.raises(PlanError, match=says):
        plan(randomize(model), (6, 4))


def test_dropout_in_eval_mode_is_nothing():
    with_dropout = Faulty(nn.Dropout(0.5)).eval()
    assert plan(with_dropout, (6, 4)).macs == plan(Faulty(nn.Identity()), (6, 4)).macs


class InPlace(Network):
    """A network that changes a feature map that another part still views or reads."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.relu = nn.ReLU(inplace=True)
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(self.images(images))
        if self.how == "read later":
            return self.logits(self.out(self.relu(x) + x))
        if self.how == "a view":
            self.relu(x.chunk(2, 1)[0])
        elif self.how == "a statement":
            x.mul_(3)
        elif self.how == "an option":
            nn.functional.relu(x, inplace=True)
        return self.logits(self.out(x))


@pytest.mark.parametrize("how", ["read later", "a view", "a statement", "an option"])
def test_a_change_in_place_that_others_would_see_is_refused(how):
    with pytest.raises(PlanError, match="changes a feature map in place that others may read"):
        plan(InPlace(how), (6, 4))


class Tripled(MaskedConv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


def test_a_layer_with_a_forward_of_its_own_is_not_taken_for_its_parent():
    with pytest.raises(PlanError, match=r"does not know masked_conv2d .*ancestral"):
        plan(Faulty(Tripled(6, 6, 1, mask_type="B")), (6, 4))


def test_a_layer_with_a_hook_is_refused():
    model = Faulty(nn.Identity())
    model.first.register_forward_hook(lambda layer, args, output: 2 * output)
    with pytest.raises(PlanError, match="layer first has hooks"):
        plan(model, (6, 4))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "wrong", MaskedConv2d(6, 6, 3, mask_type="B").double()),
        lambda model: setattr(model.first, "mask_type", "V-first"),
        lambda model: setattr(model.first, "weight", nn.Parameter(2 * model.first.weight)),
        lambda model: model.float(),
    ],
    ids=["another layer", "another mask", "another parameter", "another dtype"],
)
def test_a_changed_network_is_planned_anew(change):
    model = randomize(Faulty(MaskedConv2d(6, 6, 1, mask_type="B"))).double()
    images = torch.randint(8, (1, 3, 6, 4), dtype=torch.uint8)
    logits(model, images)
    change(model)
    torch.testing.assert_close(logits(model, images), model(images), check_dtype=False)


def test_a_reparametrized_layer_is_sampled_as_it_computes():
    model = randomize(Faulty(MaskedConv2d(6, 6, 1, mask_type="B"))).double()
    nn.utils.parametrizations.weight_norm(model.wrong)
    images = torch.randint(8, (1, 3, 6, 4), dtype=torch.uint8)
    torch.testing.assert_close(logits(model, images), model(images))


class ForwardThatBranches(Network):
    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 24, 3, mask_type="A")

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(self.images(images))
        return self.logits(x if x.sum() > 0 else -x)


def test_a_forward_that_cannot_be_traced_says_what_to_do():
    with pytest.raises(PlanError, match=r'ForwardThatBranches cannot be traced.*"ancestral"'):
        plan(ForwardThatBranches(), (6, 4))


def test_the_leaves_of_functional_are_what_the_plan_takes_them_for():
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    a, b = x[:, :3], x[:, 3:]
    torch.testing.assert_close(functional.gate(x), a.tanh() * b.sigmoid())
    images = torch.arange(8, dtype=torch.uint8).view(1, 2, 2, 2)
    scaled = functional.normalize_images(images, 2, 8, torch.float64)
    torch.testing.assert_close(scaled, images.double() / 3.5 - 1)
    logits = functional.to_logits(x, 2, 3)
    assert torch.equal(logits[:, 2, 1], x[:, 5])


# Threads.


def at_once(*works: Callable[[], object]) -> None:
    """Run each function in its own thread, all starting together; raise an error of any."""
    begin, errors = threading.Barrier(len(works)), []

    def run(work: Callable[[], object]) -> None:
        begin.wait()
        try:
            work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("shared", [True, False])
def test_several_threads_may_plan_at_once(shared):
    for _ in range(5):
        models = [network("GatedPixelCNN")] * 4
        if not shared:
            models = [network("GatedPixelCNN") for _ in models]
        at_once(*(partial(make_plan, model) for model in models))
        assert len({id(make_plan(model)) for model in models}) == (1 if shared else 4)


def test_a_network_may_run_while_another_thread_plans():
    """Check a forward pass during tracing, which replaces methods of every module."""
    running, planned = network("PixelRecursiveSR-gated"), threading.Event()
    what = inputs(running)["low_res"]
    images = torch.zeros(1, running.colors, 6, 4, dtype=torch.uint8)
    expected = running(images, what)

    def run() -> None:
        while not planned.is_set():
            assert torch.equal(running(images, what), expected)

    def plan_some() -> None:
        try:
            for _ in range(8):
                make_plan(network("GatedPixelCNN"))
        finally:
            planned.set()

    at_once(run, plan_some)
