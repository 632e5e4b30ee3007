"""Tests that each new plan is compared with its network: a planning mistake is an error."""

import functools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pixelsr
from pixelsr.errors import NotCausal, PlanError, UnsupportedOperation
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling import plan, plan_check, recording
from pixelsr.sampling.plan import Plan, Product
from pixelsr.sampling.plan.ir import Placed
from pixelsr.sampling.plan.operations.pointwise import POINTWISE
from tests.support.helpers import randomize
from tests.support.networks import Network, inputs, network

DIFFERS = "the plan's logits differ from the forward's logits"


class Small(Network):
    """A network with a function of the features between two layers."""

    def __init__(self, function=torch.tanh) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 8, 3, mask_type="A")
        self.out = MaskedConv2d(8, 24, 1, mask_type="B")
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.function(self.first(self.images(images)))))


class OwnFloats(Small):
    """A network that makes float32 features, whatever the dtype of the parameters."""

    def images(self, images: Tensor) -> Tensor:
        return images.float() / 255


def plan_as(monkeypatch, name: str, other: str) -> None:
    """Make the planner take one pointwise function for another."""
    monkeypatch.setitem(POINTWISE, name, POINTWISE[other])


@pytest.fixture
def tanh_planned_as_sigmoid(monkeypatch):
    plan_as(monkeypatch, "tanh", "sigmoid")


def every_kind_of_network() -> list[nn.Module]:
    untrained = Small()
    for parameter in untrained.parameters():
        nn.init.zeros_(parameter)
    closure = randomize(Small())
    closure.function = lambda x, model=closure: torch.tanh(x) * model.levels
    return [
        randomize(Small()),
        randomize(Small()).double(),
        randomize(Small()).bfloat16(),
        untrained,
        randomize(OwnFloats()),
        closure,
    ]


NAMES = ["float32", "float64", "bfloat16", "untrained", "dtype of its own", "closure"]


@pytest.mark.usefixtures("tanh_planned_as_sigmoid")
@pytest.mark.parametrize("model", every_kind_of_network(), ids=NAMES)
def test_a_function_taken_for_another_is_an_error(model):
    with pytest.raises(PlanError, match=DIFFERS):
        plan(model, (6, 4))


@pytest.mark.parametrize("model", every_kind_of_network(), ids=NAMES)
def test_the_right_plan_passes(model):
    assert plan(model, (6, 4)) is plan(model, (6, 4))


@pytest.mark.usefixtures("tanh_planned_as_sigmoid")
def test_the_model_and_the_random_state_are_left_as_they_were():
    model = randomize(Small())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(PlanError, match=DIFFERS):
        plan(model, (6, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.first.weight.dtype == torch.float32


def test_a_forward_that_is_not_a_function_is_refused():
    with pytest.raises(PlanError, match="not a function of its inputs"):
        plan(randomize(Small(lambda x: x * random.random())), (6, 4))


def spoil(monkeypatch, change: Callable[[Plan], Plan]) -> None:
    """Change each plan before it is checked."""
    make = recording.make_plan
    monkeypatch.setattr(recording, "make_plan", lambda *arguments: change(make(*arguments)))


def mirror_the_rows_above(monkeypatch) -> None:
    """Make the planner use the taps of the rows above in mirrored order."""

    def mirrored(placed: Placed) -> Placed:
        step = placed.step
        if isinstance(step, Product) and placed.when == "row":
            step = replace(step, cols=tuple(-col for col in step.cols))
        return replace(placed, step=step)

    spoil(monkeypatch, lambda made: replace(made, placed=tuple(map(mirrored, made.placed))))


def test_the_first_position_that_differs_is_named(monkeypatch):
    mirror_the_rows_above(monkeypatch)
    with pytest.raises(PlanError, match=f"{DIFFERS} by up to .*, first at row 1, column"):
        plan(network("PixelCNN"), (6, 4))


def test_a_plan_that_cannot_be_run_is_refused(monkeypatch):
    def narrowed(made: Plan) -> Plan:
        steps = (placed.step for placed in made.placed if isinstance(placed.step, Product))
        window = next(step for step in steps if min(step.cols) < 0)
        made.buffers[window.src.buffer].left = 0  # the window reaches into it
        return made

    spoil(monkeypatch, narrowed)
    with pytest.raises(PlanError, match="cannot be checked"):
        plan(network("PixelCNN"), (6, 4))


def test_a_conditional_network_is_checked_with_a_small_image(monkeypatch):
    model = network("Conditioned")
    small = tuple(inputs(model)["low_res"].shape[2:])
    plan(model, (6, 4), small)
    plan_as(monkeypatch, "relu", "neg")
    with pytest.raises(PlanError, match=DIFFERS):
        plan(model, (8, 4), (4, 2))


@pytest.mark.parametrize("name", ["PixelCNN", "PixelRecursiveSR-gated"])
def test_a_plan_for_a_large_image_is_checked_at_a_smaller_size(name, monkeypatch):
    monkeypatch.setattr(plan_check, "_MOST_LOGITS", 8 * 6 * 3 * 8)
    seen = []
    compare = plan_check._compare

    def spy(made, *arguments, **options):
        seen.append(made.image_size)
        return compare(made, *arguments, **options)

    monkeypatch.setattr(plan_check, "_compare", spy)
    model = network(name)
    plan(model, (16, 12), (8, 6) if name != "PixelCNN" else None)
    [(height, width)] = seen
    assert height * width < 16 * 12


def test_a_position_dependent_network_is_checked_at_its_own_size(monkeypatch):
    class Placed(Small):
        def __init__(self) -> None:
            super().__init__(lambda x: x)
            self.where = nn.Parameter(torch.zeros(1, 8, 16, 12))

        def forward(self, images: Tensor) -> Tensor:
            return self.logits(self.out(self.first(self.images(images)) + self.where))

    monkeypatch.setattr(plan_check, "_MOST_LOGITS", 8)
    model = randomize(Placed()).double()
    drawn = pixelsr.sample(model, 2, image_size=(16, 12))
    assert torch.equal(drawn, pixelsr.sample(model, 2, image_size=(16, 12), method="ancestral"))


# Things that must not hide a mistake.


class Masked(Small):
    """A network that adds a number to the last level's logits, as if to forbid the level."""

    def __init__(self, number: float) -> None:
        super().__init__()
        mask = torch.zeros(1, 8, 3, 1, 1)
        mask[:, 7] = number
        self.register_buffer("mask", mask)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.mask


FORBIDDING = [-torch.inf, -1e9, -1e30, torch.finfo(torch.float32).min]


@pytest.mark.parametrize("number", FORBIDDING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mask_on_the_logits_hides_no_mistake(number, dtype, monkeypatch):
    assert plan(randomize(Masked(number)).to(dtype), (6, 4)).macs
    plan_as(monkeypatch, "tanh", "sigmoid")
    with pytest.raises(PlanError, match=DIFFERS):
        plan(randomize(Masked(number)).to(dtype), (6, 4))


@pytest.mark.usefixtures("tanh_planned_as_sigmoid")
@pytest.mark.parametrize("extra", ["frozen", "partial", "own dtype"])
def test_weights_of_zero_hide_no_mistake(extra):
    model = randomize(OwnFloats() if extra == "own dtype" else Small())
    nn.init.zeros_(model.out.weight)
    nn.init.zeros_(model.out.bias)
    if extra == "frozen":
        model.requires_grad_(False)
    elif extra == "partial":
        model.another = functools.partial(torch.add, 1)
    with pytest.raises(PlanError, match=DIFFERS):
        plan(model, (6, 4))


def test_frozen_masks_are_kept():
    class FrozenMask(Small):
        def __init__(self) -> None:
            super().__init__(lambda x: x)
            kept = torch.tensor([1.0, 0.0] * 4)[:, None, None]
            self.kept = nn.Parameter(kept, requires_grad=False)

        def forward(self, images: Tensor) -> Tensor:
            x = self.first(self.images(images))
            return self.logits(self.out(x / self.kept.clamp(min=1) * self.kept))

    assert plan(FrozenMask(), (6, 4)).macs


@pytest.mark.parametrize("size", [(4, 64), (64, 4)])
def test_a_long_image_is_not_reduced_to_where_a_mistake_does_not_show(size, monkeypatch):
    monkeypatch.setattr(plan_check, "_MOST_LOGITS", 8 * 3 * 16)
    plan(network("PixelCNN"), size)
    mirror_the_rows_above(monkeypatch)
    with pytest.raises(PlanError, match=DIFFERS):
        plan(network("PixelCNN"), size)


class NormalisedHint(Network):
    scale_factor = 2

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm = nn.ConvTranspose2d(3, 6, 2, stride=2), nn.BatchNorm2d(6)
        self.first, self.out = (
            MaskedConv2d(3, 6, 3, mask_type="A"),
            MaskedConv2d(6, 24, 1, mask_type="B"),
        )

    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        hint = self.norm(self.up(self.images(low_res)))
        return self.logits(self.out(self.first(self.images(images)) + hint))


def test_a_network_that_mixes_the_inputs_of_a_batch_is_refused():
    model = randomize(NormalisedHint()).double()
    assert plan(model.eval(), (6, 4), (3, 2)).macs
    with pytest.raises(PlanError, match=DIFFERS):
        plan(model.train(), (6, 4), (3, 2))


# Networks that must not be refused.


def ends_in_float(logits: Tensor) -> Tensor:
    return logits.float()


def test_logits_of_another_dtype_are_planned(monkeypatch):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert plan(randomize(BehindLogits(ends_in_float)).to(dtype), (6, 4)).macs
    plan_as(monkeypatch, "tanh", "sigmoid")
    with pytest.raises(PlanError, match=DIFFERS):
        plan(randomize(BehindLogits(ends_in_float)), (6, 4))


def test_a_forward_that_asserts_its_dtype_is_planned():
    class Asserting(Small):
        def forward(self, images: Tensor) -> Tensor:
            assert next(self.parameters()).dtype == torch.float32
            return super().forward(images)

    assert plan(randomize(Asserting()), (6, 4)).macs


def test_functions_in_containers_that_refer_to_the_model():
    model = randomize(Small()).double()
    model.acts = {"tanh": [lambda x, model=model: torch.tanh(x), lambda x: x * len(model.acts)]}
    model.function = lambda x: model.acts["tanh"][1](model.acts["tanh"][0](x))
    assert plan(model, (6, 4)).macs


@pytest.mark.parametrize("frozen", [True, False])
def test_the_data_of_a_parameter_is_read_when_it_is_drawn(frozen):
    class Scaled(Small):
        def __init__(self) -> None:
            super().__init__(lambda x: x)
            self.scale = nn.Parameter(torch.ones(1), requires_grad=not frozen)
            self.weight = nn.Parameter(torch.ones(8, 1), requires_grad=not frozen)

        def forward(self, images: Tensor) -> Tensor:
            x = self.first(self.images(images)) * self.scale.data
            return self.logits(self.out(x + self.weight.T.mean()))

    model = randomize(Scaled()).double()
    for scale in (1.0, -2.0):
        model.scale.data.fill_(scale)
        drawn = pixelsr.sample(model, 2, image_size=(5, 4))
        assert torch.equal(drawn, pixelsr.sample(model, 2, image_size=(5, 4), method="ancestral"))


# Indexing.


class Indexed(Network):
    def __init__(self, function) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 8, 3, mask_type="A", out_parts=2)
        self.out = MaskedConv2d(8, 24, 1, mask_type="B", in_parts=2)
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.function(self.first(self.images(images)))))


SLICES = {
    "halves": lambda y: torch.cat([torch.tanh(y[:, :4]) * torch.sigmoid(y[:, 4:]), y[:, 4:]], 1),
    "one channel for all": lambda y: y * torch.sigmoid(y[:, :1]),
    "a channel added": lambda y: y[:, 0:1] + y,
    "from the end": lambda y: torch.cat([y[:, :-4], y[:, -4:]], 1),
    "a step": lambda y: y - y[:, :2:4],
    "an ellipsis": lambda y: torch.cat([y[..., :4, :, :], y[:, 4:, ...]], 1),
    "written out": lambda y: torch.cat([y[:, 0:4, :, :], y[:, 4:8, :, :]], 1),
    "of a sum": lambda y: (y + y)[:, :8],
    "all": lambda y: y[:],
    "a new dimension": lambda y: y[:, None][:, 0],
    "no channel": lambda y: torch.cat([y, y[:, 8:]], 1),
    "chunks not taken apart": lambda y: torch.cat(y.chunk(2, 1), 1),
    "a list": lambda y: y + y[:, [1, 0, 2, 3, 5, 4, 6, 7]],
    "a channel": lambda y: y + y[:, 0][:, None],
    "rows above": lambda y: y + F.pad(y[:, :, :-1], (0, 0, 1, 0)),
    "columns to the left": lambda y: y + F.pad(y[..., :-1], (1, 0)),
    "rolled channels": lambda y: y + y.roll(2, 1).roll(-2, 1),
}


@pytest.mark.parametrize("function", SLICES.values(), ids=SLICES.keys())
@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_slices_of_channels_are_drawn_as_the_network_computes(function, engine):
    model = randomize(Indexed(function)).double()
    drawn = pixelsr.sample(model, 2, image_size=(5, 4), engine=engine)
    assert torch.equal(drawn, pixelsr.sample(model, 2, image_size=(5, 4), method="ancestral"))


REFUSED = {
    "a list": (lambda y: y[:, [7, 6, 5, 4, 3, 2, 1, 0]], NotCausal, "color 1 of their own pixel"),
    "rows": (lambda y: y[:, :, 0:1], PlanError, r"returns \[1, 8, 3, 1, 4\], expected logits"),
    "a row for all": (lambda y: y + y[:, :, 0:1], UnsupportedOperation, "^add .* rearranges"),
    "rows by a list": (lambda y: y[:, :, [1, 2, 3, 0]], UnsupportedOperation, "^index .* rearr"),
    "rows below": (
        lambda y: F.pad(y[:, :, 1:], (0, 0, 0, 1)),
        NotCausal,
        r"color 2 of the pixel at row \+1, column -1: through .*layer first",
    ),
    "columns to the right": (
        lambda y: F.pad(y[..., 1:], (0, 1)),
        NotCausal,
        "color 2 of their own pixel: through .*layer first",
    ),
    "rolled rows": (lambda y: y.roll(1, 2), UnsupportedOperation, "^roll .* rearranges positions"),
    "another sample": (lambda y: y.flip(0), UnsupportedOperation, "^flip .* samples of a batch"),
    "exchanged": (lambda y: y.transpose(2, 3), UnsupportedOperation, "rearranges|differ"),
}


@pytest.mark.parametrize(("function", "error", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_any_other_index_is_refused_by_name(function, error, says):
    with pytest.raises(error, match=says):
        plan(randomize(Indexed(function)), (4, 4))


@pytest.mark.parametrize("method", ["cached", "ancestral"])
@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda y: y[0], ValueError),
        (lambda y: y[:, 0], ValueError),
        (lambda y: y.chunk(2, 1)[2], IndexError),
    ],
    ids=["a sample", "a channel", "a part that is not there"],
)
def test_an_index_that_the_network_itself_cannot_take_is_its_own_error(function, error, method):
    with pytest.raises(error) as caught:
        pixelsr.sample(randomize(Indexed(function)), image_size=(4, 4), method=method)
    assert not isinstance(caught.value, PlanError)


def check_drawn(model: nn.Module) -> None:
    model = randomize(model).double()
    drawn = pixelsr.sample(model, 2, image_size=(5, 4))
    assert torch.equal(drawn, pixelsr.sample(model, 2, image_size=(5, 4), method="ancestral"))


def test_a_part_of_a_sequential_is_drawn_as_it_computes():
    class Part(Small):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(self.first, nn.Tanh(), nn.Identity())

        def forward(self, images: Tensor) -> Tensor:
            return self.logits(self.out(self.net[:-1](self.images(images))))

    check_drawn(Part())


class BehindLogits(Small):
    def __init__(self, change) -> None:
        super().__init__()
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(super().forward(images))


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits[:, :8],
        lambda logits: torch.cat([logits.chunk(2, 1)[1], logits.chunk(2, 1)[0]], 1),
        lambda logits: torch.cat([logits[:, :, :1]] * 3, 2),
        lambda logits: torch.tanh(logits) * 3,
        lambda logits: logits.flip(1),
        lambda logits: logits.log_softmax(1),
    ],
    ids=["slice", "chunk", "cat", "pointwise", "flip", "log_softmax"],
)
def test_what_stands_behind_the_logits_is_planned(change):
    check_drawn(BehindLogits(change))


def test_colors_that_are_exchanged_behind_the_logits_are_refused():
    with pytest.raises(NotCausal, match="color 0 read color 1 of their own pixel"):
        plan(randomize(BehindLogits(lambda logits: logits.flip(2))), (4, 4))


# Inputs that a network does not read.


class LowResUnread(Network):
    scale_factor = 2

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.offset = nn.Parameter(torch.zeros(6, 1, 1))
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        return self.logits(self.out(self.first(self.images(images)) + torch.exp(self.offset)))


class ImagesUnread(LowResUnread):
    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        x = self.images(low_res).repeat_interleave(2, 2).repeat_interleave(2, 3)
        return self.logits(self.out(self.first(x)))


@pytest.mark.parametrize("make", [LowResUnread, ImagesUnread])
@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_a_network_that_never_reads_one_of_its_inputs_is_drawn(make, engine):
    model = randomize(make()).double()
    given = inputs(model, 2)
    drawn = pixelsr.sample(model, 3, **given, engine=engine)
    assert torch.equal(drawn, pixelsr.sample(model, 3, **given, method="ancestral"))


def test_levels_that_logits_do_not_have_are_refused():
    model = randomize(Small()).double()
    model.levels = 4
    for method in ("cached", "ancestral"):
        with pytest.raises(ValueError, match=r"logits|4 levels"):
            pixelsr.sample(model, 1, image_size=(4, 4), method=method)


def test_a_network_that_needs_a_small_image_says_so():
    with pytest.raises(PlanError, match="PixelRecursiveSR needs low_res_size"):
        plan(network("PixelRecursiveSR-gated"), (6, 4))
