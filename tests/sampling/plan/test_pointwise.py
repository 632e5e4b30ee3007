"""Tests of the table of pointwise functions, and that every engine has all of them."""

import re
from operator import itemgetter

import pytest
import torch
import torch.nn.functional as F
from torch import inf, nan, nn

from pixelsr import functional, sampling
from pixelsr.errors import PlanError
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling.engines.packing import OPCODES
from pixelsr.sampling.plan.pointwise import POINTWISE
from tests.support.emulator.build import ROOT
from tests.support.engines import for_engines
from tests.support.helpers import randomize

NUMBERS = [-90.0, -3.5, -1.0, -1e-4, 0.0, 1e-4, 0.5, 1.0, 17.0, nan]
PAIRS = [([-1.5, 0.0, 2.0, inf, nan],), ([-inf, -2.0, -0.5, 0.5, 3.0],), ([-1.0, 1.0, nan],)]
CUSTOM = {
    "gate": lambda a, b: torch.tanh(a) * torch.sigmoid(b),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "clamp": lambda x: torch.clamp(x, -0.5, 0.75),
}
INPUTS = {op.name: op.arity - len(op.options) for op in POINTWISE}


def test_the_opcodes_of_all_languages_are_the_same():
    steps = pytest.importorskip("pixelsr.kernels.sampling.steps")
    opcodes = sorted(OPCODES.items(), key=itemgetter(1))
    names = [name.upper() for name, _ in opcodes]
    header = (ROOT / "csrc/common/opcodes.h").read_text()
    enum = re.search(r"enum class Opcode : int64_t {(.*?)}", header, re.DOTALL)[1]
    assert re.findall(r"^ +(\w+),?$", enum, re.MULTILINE) == [*names, "COUNT"]
    for name, number in opcodes:
        assert getattr(steps, name.upper()).value == number


def test_opcodes_tell_the_number_of_operands():
    arities = [op.arity for op in POINTWISE]
    assert arities == sorted(arities)
    first = [POINTWISE[arities.index(arity)].name.upper() for arity in (1, 2, 3)]
    header = (ROOT / "csrc/common/opcodes.h").read_text()
    assert re.findall(r"opcode >= Opcode::(\w+)", header) == first
    source = (ROOT / "kernels/sampling/steps.py").read_text()
    assert re.findall(r"opcode < (\w+):", source) == first[1:]


def function_of(op):
    return CUSTOM.get(op.name) or next(
        form for form in op.traced if not isinstance(form, str | type)
    )


class Table(nn.Module):
    """A network whose logits are the results of functions for all combinations of numbers.

    A NaN is the sum of two infinities, because buffers hold none.
    """

    colors = 1

    def __init__(self, functions, arity, numbers):
        super().__init__()
        operands = torch.cartesian_prod(*[torch.tensor(numbers)] * arity).view(-1, arity, 1, 1, 1)
        self.register_buffer("first", operands.nan_to_num(inf, inf, -inf))
        self.register_buffer("second", torch.where(operands.isnan(), -inf, 0.0))
        self.zero = MaskedConv2d(1, len(operands), 3, mask_type="A", colors=1, bias=False)
        nn.init.zeros_(self.zero.weight)
        self.functions, self.arity = functions, arity
        self.levels = len(functions) * len(operands)

    def forward(self, images):
        zero = self.zero(images.float())
        operands = [
            zero + self.first[:, i].view(1, -1, 1, 1) + self.second[:, i].view(1, -1, 1, 1)
            for i in range(self.arity)
        ]
        results = [function(*operands) for function in self.functions]
        return functional.to_logits(torch.cat(results, 1), 1, self.levels)


def check_table(functions, arity, numbers, engine):
    engine.skip_unless_exact()
    model = Table(functions, arity, numbers).to(engine.device)
    images = torch.randint(2, (2, 1, 2, 2), dtype=torch.uint8).to(engine.device)
    expected = model(images)
    assert expected.isfinite().any()
    found = sampling.logits(model, images, engine=engine.name)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-6, equal_nan=True)


@for_engines("", [()])
def test_functions_of_one_number(engine):
    functions = [function_of(op) for op in POINTWISE if INPUTS[op.name] == 1]
    check_table(functions, 1, NUMBERS, engine)
    # PyTorch's own GELU of an infinity is NaN.
    infinite = [function for function in functions if function not in (F.gelu, CUSTOM["gelu_tanh"])]
    check_table(infinite, 1, [-inf, -1e30, 1e30, inf], engine)


@for_engines("numbers", PAIRS)
def test_functions_of_two_numbers(engine, numbers):
    functions = [function_of(op) for op in POINTWISE if INPUTS[op.name] == 2]
    check_table(functions, 2, numbers, engine)


@for_engines("", [()])
def test_options_of_functions(engine):
    functions = [
        lambda x: F.elu(x, 0.5),
        lambda x: F.elu(x, alpha=2.0, inplace=False),
        lambda x: F.leaky_relu(x, 0.3),
        lambda x: F.leaky_relu(x, negative_slope=-0.5),
        lambda x: F.softplus(x, 2.0),
        lambda x: F.softplus(x, beta=0.5, threshold=0.1),
        lambda x: torch.clamp(x, -0.5, 0.7),
        lambda x: x.clamp(min=0.25),
        lambda x: torch.clamp(x, max=0.25),
        lambda x: x.clamp(None, 0.5),
        lambda x: torch.clamp(x, 1.0, -1.0),
        lambda x: x**2,
        lambda x: 2**x,
        lambda x: x.abs().pow(0.5),
        lambda x: 1 / (3 - x),
    ]
    check_table(functions, 1, NUMBERS, engine)


class Composed(nn.Module):
    """A network with a function of two feature maps, then a module, between two convolutions."""

    colors, levels = 1, 4

    def __init__(self, function=lambda a, b: a, module=None):
        super().__init__()
        self.first = MaskedConv2d(1, 6, 3, mask_type="A", colors=1)
        self.out = MaskedConv2d(3, 4, 1, mask_type="B", colors=1)
        self.function, self.module = function, module or nn.Identity()

    def forward(self, images):
        x = functional.normalize_images(images, 1, 4, self.first.weight.dtype)
        first = self.first(x)
        mixed = self.module(self.function(first[:, :3] * 2, first[:, 3:]))
        return functional.to_logits(self.out(mixed), 1, 4)


FORMS = [
    pytest.param(op.name, form, id=f"{op.name}-{number}")
    for op in POINTWISE
    for number, form in enumerate(op.traced)
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_every_form_is_planned(name, form):
    """Check each function, method and module of the table, in float64."""

    def call(a, b):
        operands = [a, b][: INPUTS[name]]
        operands[0] = a * a if name == "pow" else a
        operands += [-0.25] if name == "clamp" else []
        return (
            getattr(operands[0], form)(*operands[1:]) if isinstance(form, str) else form(*operands)
        )

    check_planned(Composed(module=form()) if isinstance(form, type) else Composed(call))


@pytest.mark.parametrize(
    "module",
    [
        nn.PReLU(),
        nn.PReLU(3),
        nn.GELU(approximate="tanh"),
        nn.ELU(0.5),
        nn.LeakyReLU(0.2),
        nn.Softplus(3, 1),
    ],
    ids=repr,
)
def test_options_of_modules_are_planned(module):
    check_planned(Composed(module=module))


def check_planned(model):
    model = randomize(model).double()
    images = torch.randint(4, (2, 1, 3, 4), dtype=torch.uint8)
    expected = model(images)
    for engine in ("reference", "auto"):
        found = sampling.logits(model, images, engine=engine)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


class Weighted(nn.Module):
    """A network with weights per channel in its pointwise functions, perhaps with more columns."""

    colors, levels = 3, 4

    def __init__(self, padding):
        super().__init__()
        self.first = MaskedConv2d(3, 9, 3, mask_type="A")
        self.prelu = nn.PReLU(9)
        self.second = MaskedConv2d(9, 9, 3, mask_type="B")
        self.weight = nn.Parameter(torch.empty(9))
        self.out = MaskedConv2d(9, 12, 1, mask_type="B")
        self.padding = padding

    def forward(self, images):
        x = functional.normalize_images(images, 3, 4, self.first.weight.dtype)
        x = F.pad(x, (0, 1)) if self.padding else x
        first = self.prelu(self.first(x))
        second = F.prelu(self.second(first), self.weight) + first
        return functional.to_logits(self.out(second[..., :-1] if self.padding else second), 3, 4)


@for_engines("padding", [False, True], triton=[True], cuda=[True])
def test_weights_per_channel_are_those_of_each_map(engine, padding):
    engine.skip_unless_exact()
    model = engine.own(randomize(Weighted(padding)))
    known = torch.randint(4, (1, 3, 5, 4), dtype=torch.uint8).to(engine.device)
    mask = torch.zeros_like(known, dtype=torch.bool)
    mask[:, :, :2], mask[:, :, 3, 1] = True, True
    every = [{}, {"known": known, "known_mask": mask}]
    for given in every if engine.name != "triton" else every[1:]:
        drawn = sampling.sample(model, 3, image_size=(5, 4), engine=engine.name, **given)
        expected = sampling.sample(model, 3, image_size=(5, 4), method="ancestral", **given)
        assert torch.equal(drawn, expected)
    if not padding:
        state = sampling.incremental_logits(model, drawn, engine=engine.name)
        state.edit(known.expand_as(drawn), ~mask.expand_as(drawn))
        torch.testing.assert_close(state.logits, model(state.images), rtol=1e-9, atol=1e-9)


def test_one_weight_of_all_channels_is_one_step():
    made = sampling.plan(Composed(module=nn.PReLU()), (3, 4))
    prelus = [p for p in made.placed if "leaky_relu" in repr(getattr(p.step, "expression", ""))]
    assert [placed.step.out.count for placed in prelus] == [3]


def test_a_weight_without_dimensions_is_planned():
    class Scalar(Composed):
        def __init__(self):
            super().__init__(lambda a, b: F.prelu(a, self.slope))
            self.slope = nn.Parameter(torch.empty(()))

    check_planned(Scalar())


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: torch.clamp(input=a, min=0),
        lambda a, b: torch.add(a, b, alpha=2),
        lambda a, b: torch.div(a, b, rounding_mode="floor"),
    ],
)
def test_other_options_are_refused_by_name(function):
    with pytest.raises(PlanError, match=r"(clamp|add|div) .* with options cannot be planned"):
        sampling.plan(Composed(function), (3, 4))


@pytest.mark.parametrize(
    "weight", [lambda model: model.out.bias[:3] * 2, lambda model: torch.tensor(0.25)]
)
def test_a_weight_that_is_no_parameter_is_refused(weight):
    class Computed(Composed):
        def forward(self, images):
            x = self.first(functional.normalize_images(images, 1, 4))
            return functional.to_logits(self.out(F.prelu(x[:, :3], weight(self))), 1, 4)

    with pytest.raises(PlanError, match="its weight must be a parameter or a buffer"):
        sampling.plan(Computed(), (3, 4))
