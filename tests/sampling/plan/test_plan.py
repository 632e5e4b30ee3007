"""Tests of the plan: it computes every multiply-add once, and proves causality."""

import threading
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.errors import NotCausal, PlanError, UnsupportedOperation
from pixelsr.masks import causal_mask
from pixelsr.models import GatedPixelCNN, PixelCNN, PixelRecursiveSR
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling import logits, plan, sample
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


class FirstAlone(Network):
    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 24, 3, mask_type="A")

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.first(self.images(images)))


class RawArithmetic(FirstAlone):
    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.first((1 - images).to(self.first.weight.dtype)))


class TwoResults(FirstAlone):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.logits(self.first(self.images(images)))
        return x, x


class OtherLevels(FirstAlone):
    levels = 9

    def forward(self, images: Tensor) -> Tensor:
        return functional.to_logits(self.first(self.images(images)), 3, 8)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            (nn.Conv2d(6, 6, 3, padding=1), "A"),
            r"color 0 read color 1 of the pixel at row \+1, column \+1: .* of layer wrong",
        ),
        (
            (nn.Identity(), "B"),
            r"logits of color 0 read color 0 of their own pixel: .*layer out .*layer first",
        ),
        (
            (nn.Conv2d(6, 6, 1), "A"),
            r"logits of color 0 read color 1 of their own pixel: .*layer out .*layer wrong",
        ),
        (
            (nn.Conv2d(6, 6, 1, groups=2), "A"),
            r"logits of color 0 read color 0 of their own pixel: .*layer out .*layer wrong",
        ),
        (
            (nn.Conv2d(6, 6, (1, 2), padding="same", groups=6), "A"),
            r"logits of color 0 read color 2 of their own pixel: .*layer wrong",
        ),
    ],
    ids=["future tap", "mask type", "later colors", "groups of colors", "even kernel"],
)
def test_a_value_that_is_drawn_later_is_named(wrong, says):
    with pytest.raises(NotCausal, match=says):
        plan(randomize(Faulty(*wrong)), (6, 4))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (nn.BatchNorm2d(6), r"^native_batch_norm in layer 'wrong' .* call model.eval\(\) first"),
        (FlippedColumns(), r"^flip in layer 'wrong' \(test_plan.py:\d+\): rearranges positions"),
        (nn.Dropout(0.5), r"in layer 'wrong'.* random numbers; call model.eval\(\) first"),
        (nn.Conv2d(6, 6, 1, stride=2), r"^convolution in layer 'wrong'.* by a stride"),
        (nn.MaxPool2d(3, 1, 1), r"^max_pool2d.* in layer 'wrong'.* does not know this operation"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_operation_that_cannot_be_planned_is_named(wrong, says):
    with pytest.raises(UnsupportedOperation, match=says) as caught:
        plan(randomize(Enlarged(wrong)), (6, 4))
    assert 'method="ancestral" works for any causal network' in str(caught.value)


class Enlarged(Faulty):
    """A network that repeats the rows and columns that a layer has left out."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.wrong(self.first(self.images(images)))
        for dim in (2, 3):
            x = x.repeat_interleave(images.shape[dim] // x.shape[dim], dim)
        return self.logits(self.out(x))


def test_integers_that_would_wrap_around_are_refused():
    with pytest.raises(UnsupportedOperation, match=r"^rsub .*uint8 from -6 to 1, .* wrap around"):
        plan(randomize(RawArithmetic()), (6, 4))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Faulty(nn.Conv2d(6, 6, 3)), r"returns \[1, 8, 3, 4, 2\], expected .* 3, 6, 4\]"),
        (TwoResults(), "returns a tuple, expected logits alone"),
        (OtherLevels(), r"returns \[1, 8, 3, 6, 4\], expected logits \[1, 9, 3, "),
    ],
    ids=["smaller", "a tuple", "levels"],
)
def test_other_results_than_logits_are_refused(model, says):
    with pytest.raises(PlanError, match=says):
        plan(randomize(model), (6, 4))


def test_an_error_of_the_network_itself_is_raised():
    for method in ("cached", "ancestral"):
        with pytest.raises(RuntimeError, match=r"expected input.* to have 5 channels, but got 6"):
            sample(randomize(Faulty(nn.Conv2d(5, 6, 1))), image_size=(6, 4), method=method)


# Networks that others could write.


def check_drawn(model: nn.Module, macs: int | None = None) -> None:
    """Check the images of a network, in float64, and the multiply-adds of a pixel."""
    model = randomize(model).double().eval()
    drawn = sample(model, 2, image_size=(5, 4), seed=1)
    assert torch.equal(drawn, sample(model, 2, image_size=(5, 4), seed=1, method="ancestral"))
    assert macs is None or plan(model, (5, 4)).macs == 5 * 4 * macs


class Views(FirstAlone):
    """A network with views in place of `functional.to_logits`."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(self.images(images))
        return x.view(x.shape[0], 3, 8, x.shape[2], x.shape[3]).transpose(1, 2)


class Valid(Faulty):
    """A network whose layer is not padded, so that the image is."""

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.pad(self.first(self.images(images)), (2, 0, 1, 0))
        return self.logits(self.out(self.wrong(x)))


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        (Faulty(nn.BatchNorm2d(6)), 0),
        (Faulty(nn.Dropout(0.5)), 0),
        (Faulty(nn.Conv2d(6, 6, 1, groups=6)), 6),
        (Faulty(nn.Conv2d(6, 6, 1, groups=3)), 12),
        (Valid(nn.Conv2d(6, 6, (2, 3), groups=3)), 6 * 2 * 6),
        (Valid(nn.Conv2d(6, 6, (2, 3), groups=6, bias=False)), 6 * 6),
        (Views(), None),
    ],
    ids=["batch norm", "dropout", "depthwise", "groups", "even kernel", "no bias", "views"],
)
def test_layers_of_others_are_planned_with_their_live_multiply_adds(model, macs):
    both = plan(randomize(Faulty(nn.Identity())).double().eval(), (5, 4)).macs // 20
    check_drawn(model, None if macs is None else both + macs)


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
def test_a_change_in_place_is_seen_by_all_that_read_it(how):
    check_drawn(InPlace(how))


class Tripled(MaskedConv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


def test_a_layer_with_a_forward_of_its_own_is_drawn_as_it_computes():
    check_drawn(Faulty(Tripled(6, 6, 1, mask_type="B")))


def test_a_layer_with_a_hook_is_drawn_as_it_computes():
    model = Faulty(nn.Identity())
    model.first.register_forward_hook(lambda layer, args, output: 2 * output)
    check_drawn(model)


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


def test_a_forward_that_branches_on_values_says_what_to_do():
    says = r'^item \(test_plan.py:\d+\): .* may branch; method="ancestral" works'
    with pytest.raises(UnsupportedOperation, match=says):
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
    """Check a forward pass during the recording of another, whose modes are of its thread."""
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
