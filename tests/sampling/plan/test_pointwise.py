"""Tests of the table of pointwise functions, of every engine's, and of all that is planned so."""

import functools
import math
import re
from dataclasses import replace
from operator import itemgetter

import pytest
import torch
import torch.nn.functional as F
from torch import inf, nan, nn

from pixelsr import functional, ops, sampling
from pixelsr.errors import UnsupportedOperation
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling.engines import ENGINES
from pixelsr.sampling.engines.packing import OPCODES, postfix
from pixelsr.sampling.plan import Pointwise
from pixelsr.sampling.plan.pointwise import BY_NAME, POINTWISE
from pixelsr.sampling.request import request_for
from tests.support.emulator.build import ROOT
from tests.support.engines import for_engines
from tests.support.helpers import randomize

NEAR = {torch.float32: {"rtol": 2e-6, "atol": 1e-6}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}
COMPARED = [-inf, -1.0, 0.0, 1.0, nan]
NUMBERS = [-90.0, -3.5, -1.0, -1e-4, 0.0, 1e-4, 0.5, 1.0, 17.0, nan]
ENGINES_HERE = ["reference"] if ops.WHY_NOT_COMPILED else ["reference", "cpu"]
PAIRS = [([-1.5, 0.0, 2.0, inf, nan],), ([-inf, -2.0, -0.5, 0.5, 3.0],), ([-1.0, 1.0, nan],)]
OF_ONE = {
    "clamp": lambda x: torch.clamp(x, -0.5, 0.75),
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "softplus": F.softplus,
}
"""Functions whose other operands are options."""
CHOICES = {
    "lt": lambda a, b: (a < b).to(a.dtype),
    "le": lambda a, b: (a <= b).to(a.dtype),
    "eq": lambda a, b: (a == b).to(a.dtype),
    "where": lambda condition, a, b: torch.where(condition.bool(), a, b),
}


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


def functions_of(count):
    """Return the functions of some number of features, but for comparisons and choices."""
    arities = {op.name: 1 if op.name in OF_ONE else op.arity for op in POINTWISE}
    names = [name for name, arity in arities.items() if arity == count and name not in CHOICES]
    return {name: OF_ONE.get(name, BY_NAME[name].eager) for name in names}


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
        zero = self.zero(functional.normalize_images(images, 1, 2, self.zero.weight.dtype))
        operands = [
            zero + self.first[:, i].view(1, -1, 1, 1) + self.second[:, i].view(1, -1, 1, 1)
            for i in range(self.arity)
        ]
        results = [function(*operands) for function in self.functions]
        return functional.to_logits(torch.cat(results, 1), 1, self.levels)


def check_table(functions, arity, numbers, engine):
    engine.skip_unless_exact()
    for dtype in {torch.float32, engine.dtype}:
        model = Table(functions, arity, numbers).to(engine.device, dtype)
        images = torch.randint(2, (2, 1, 2, 2), dtype=torch.uint8).to(engine.device)
        expected = model(images)
        assert expected.isfinite().any()
        found = sampling.logits(model, images, engine=engine.name)
        torch.testing.assert_close(found, expected, **NEAR[dtype], equal_nan=True)


@for_engines("", [()])
def test_functions_of_one_number(engine):
    functions = functions_of(1)
    check_table(list(functions.values()), 1, NUMBERS, engine)
    # PyTorch's own GELU of an infinity is NaN.
    infinite = [function for name, function in functions.items() if "gelu" not in name]
    check_table(infinite, 1, [-inf, -1e30, 1e30, inf], engine)


@for_engines("numbers", PAIRS)
def test_functions_of_two_numbers(engine, numbers):
    check_table(list(functions_of(2).values()), 2, numbers, engine)


@for_engines("", [()])
def test_comparisons_and_choices_of_features(engine):
    """Check them as networks spell them, for infinities and NaN too."""
    compared = [CHOICES["lt"], CHOICES["le"], CHOICES["eq"], choice]
    others = [lambda a, b: (a > b) * a, lambda a, b: torch.where(a >= b, b, 0.5)]
    check_table([*compared, *others], 2, COMPARED, engine)


def choice(a, b):
    return torch.where((a != b) & ~(b <= 0) | (a == 1), a, -b)


@for_engines("", [()], reference=[], triton=[])
def test_square_roots_are_exact(engine):
    """Compare with Python's; PyTorch's and Triton's may be one unit in the last place away."""
    engine.skip_unless_exact()
    numbers = (3 * torch.rand(250)).tolist()
    roots = torch.tensor([math.sqrt(x) for x in numbers], dtype=torch.float64)
    for dtype in {torch.float32, engine.dtype}:
        model = Table([torch.sqrt], 1, numbers).to(engine.device, dtype)
        images = torch.zeros(1, 1, 1, 1, dtype=torch.uint8, device=engine.device)
        found = sampling.logits(model, images, engine=engine.name)
        assert torch.equal(found.flatten().cpu(), roots.to(dtype))


@for_engines("name", CHOICES)
def test_comparisons_and_choices(engine, name):
    """Check the functions of `CHOICES`, which replace the maxima of a plan."""
    engine.skip_unless_exact()
    function, arity = CHOICES[name], BY_NAME[name].arity
    images = torch.randint(2, (2, 1, 2, 2), dtype=torch.uint8).to(engine.device)
    for dtype in {torch.float32, engine.dtype}:
        model = Table([largest, largest_of_negative], arity, COMPARED).to(engine.device, dtype)
        made = sampling.plan(model, (2, 2))
        placed = [replace(placed, step=replaced(placed.step, name)) for placed in made.placed]
        made = replace(made, placed=tuple(placed))
        found = ENGINES[engine.name](made, request_for(model, images, None)).record(images)
        model.functions = [function, lambda first, *others: function(-first, *others)]
        torch.testing.assert_close(found, model(images), rtol=0, atol=0, equal_nan=True)


def largest(*operands):
    return functools.reduce(torch.maximum, operands)


def largest_of_negative(first, *others):
    return largest(-first, *others)


def replaced(step, name):
    """Return a step with a function in place of a maximum."""
    if not isinstance(step, Pointwise) or step.expression[0] != "maximum":
        return step
    return replace(step, expression=(name, *operands_of_maximum(step.expression)))


def operands_of_maximum(expression):
    name, *operands = expression
    return [*operands_of_maximum(operands[0]), operands[1]] if name == "maximum" else [expression]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_comparisons_and_choices_take_numbers_and_keep_the_dtype(dtype):
    x = torch.tensor([-0.1, 0.1], dtype=dtype)
    calls = [("lt", 0, x), ("le", 0.1, x), ("eq", x, 0.1)]
    for made in (BY_NAME[name].eager(*operands) for name, *operands in calls):
        assert torch.equal(made, torch.tensor([0.0, 1.0], dtype=dtype))
    where = BY_NAME["where"].eager
    assert torch.equal(where(x.relu(), 0.1, -0.1), x)
    assert torch.equal(where(1, x, nan), x)
    assert torch.equal(where(0.0, nan, x), x)


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
        lambda x: torch.log(-x),
        lambda x: 1 / torch.sqrt(-x),
    ]
    check_table(functions, 1, NUMBERS, engine)


@for_engines("exponent", [2, 0.5, -0.5, -1])
def test_common_powers_are_other_functions(engine, exponent):
    """Check them also at -0 and -inf, where C's `pow` differs from PyTorch's."""
    check_table([lambda x: x**exponent], 1, [*NUMBERS, -inf, inf], engine)
    check_table([lambda x: 1 / (-x) ** exponent], 1, NUMBERS, engine)
    code = postfix(("pow", ("arg", 0), ("const", float(exponent))))
    assert "pow" not in dict(code)


class Composed(nn.Module):
    """A network with a function of two feature maps, or a module, between two convolutions."""

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


def positive(x):
    return x * x + 0.1


PLANE = torch.tensor([True, False, True])[:, None, None]
SLOPES = torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64)
FORMS = {
    "abs": [lambda a, b: abs(a), lambda a, b: torch.abs(a), lambda a, b: a.abs_()],
    "addcdiv": [lambda a, b: torch.addcdiv(a, b, positive(a), value=-2)],
    "addcmul": [
        lambda a, b: torch.addcmul(a, a, b),
        lambda a, b: a.addcmul(a, b, value=0.5),
        lambda a, b: a.addcmul_(b, b),
    ],
    "add": [
        lambda a, b: a + b,
        lambda a, b: 1 + a,
        lambda a, b: torch.add(a, b, alpha=2),
        lambda a, b: a.add_(b, alpha=-1),
    ],
    "celu": [lambda a, b: F.celu(a, 1.7), lambda a, b: torch.celu_(a)],
    "clamp": [
        lambda a, b: a.clamp(-0.5, 0.2),
        lambda a, b: torch.clip(a, -0.5, 0.2),
        lambda a, b: torch.clamp(input=a, min=0),
        lambda a, b: a.clamp(max=0.5),
        lambda a, b: a.clamp(b, b + 1),
        lambda a, b: a.clamp(min=b),
        lambda a, b: a.clamp_(-0.5, 0.2),
        lambda a, b: a.clamp_min(0.1),
        lambda a, b: a.clamp_max_(0.1),
    ],
    "comparison": [
        lambda a, b: a * (a > 0),
        lambda a, b: (a > b).to(a.dtype),
        lambda a, b: (a != b).double() * a,
        lambda a, b: b * a.lt(b) + a.ge(0),
    ],
    "div": [
        lambda a, b: a / positive(b),
        lambda a, b: torch.divide(a, 2),
        lambda a, b: 1 / positive(a),
        lambda a, b: a.div_(positive(b)),
        lambda a, b: positive(a).reciprocal(),
    ],
    "elu": [lambda a, b: F.elu(a, 0.7), lambda a, b: F.elu_(a)],
    "exp": [lambda a, b: torch.exp(a), lambda a, b: a.exp(), lambda a, b: a.exp_()],
    "gelu": [lambda a, b: F.gelu(a), lambda a, b: F.gelu(a, approximate="tanh")],
    "glu": [
        lambda a, b: F.glu(torch.cat([a, b], 1), 1),
        lambda a, b: nn.GLU(-3)(torch.cat([b, a], 1)),
        lambda a, b: torch.tanh(a) * torch.sigmoid(b),
    ],
    "hardsigmoid": [lambda a, b: F.hardsigmoid(a), lambda a, b: F.hardswish(a)],
    "hardtanh": [lambda a, b: F.hardtanh(a, -0.5, 0.2), lambda a, b: F.hardtanh_(a)],
    "leaky_relu": [lambda a, b: F.leaky_relu(a, -0.5), lambda a, b: F.leaky_relu_(a)],
    "lerp": [lambda a, b: torch.lerp(a, b, 0.3), lambda a, b: torch.lerp(a, b, b)],
    "log": [
        lambda a, b: torch.log(positive(a)),
        lambda a, b: positive(a).log_(),
        lambda a, b: torch.log1p(positive(a)),
    ],
    "logsigmoid": [lambda a, b: F.logsigmoid(a)],
    "masked_fill": [
        lambda a, b: a.masked_fill(b > 0, 0.5),
        lambda a, b: a.masked_fill(PLANE, 0.5),
        lambda a, b: a.masked_fill_(b > 0, -1),
    ],
    "maximum": [
        lambda a, b: torch.maximum(a, b),
        lambda a, b: torch.max(a, b),
        lambda a, b: torch.minimum(a, b),
        lambda a, b: torch.min(a, b),
    ],
    "mul": [lambda a, b: a * b, lambda a, b: torch.multiply(a, 2), lambda a, b: a.mul_(b)],
    "mish": [lambda a, b: F.mish(a)],
    "neg": [lambda a, b: -a, lambda a, b: torch.negative(a), lambda a, b: a.neg_()],
    "pow": [
        lambda a, b: a**2,
        lambda a, b: a.pow(3),
        lambda a, b: positive(a) ** -1.5,
        lambda a, b: 2**a,
        lambda a, b: torch.square(a),
        lambda a, b: a.pow_(2),
        lambda a, b: positive(a) ** b,
    ],
    "prelu": [lambda a, b: F.prelu(a, SLOPES), lambda a, b: F.prelu(a, SLOPES[2])],
    "relu": [
        lambda a, b: torch.relu(a),
        lambda a, b: F.relu(a, inplace=True),
        lambda a, b: a.relu_(),
        lambda a, b: F.relu6(a),
    ],
    "selu": [lambda a, b: F.selu(a), lambda a, b: torch.selu_(a)],
    "sigmoid": [lambda a, b: F.sigmoid(a), lambda a, b: a.sigmoid_()],
    "silu": [lambda a, b: F.silu(a), lambda a, b: F.silu(a, inplace=True)],
    "softmax": [
        lambda a, b: F.softmax(a, 1),
        lambda a, b: a.log_softmax(-3),
        lambda a, b: a - a.logsumexp(1, keepdim=True),
    ],
    "softplus": [lambda a, b: F.softplus(a, 0.5, 0.1)],
    "sqrt": [
        lambda a, b: torch.sqrt(positive(a)),
        lambda a, b: positive(a).sqrt_(),
        lambda a, b: positive(a).rsqrt(),
    ],
    "sub": [
        lambda a, b: a - b,
        lambda a, b: 1 - a,
        lambda a, b: torch.rsub(a, b, alpha=3),
        lambda a, b: a.sub_(b),
    ],
    "tanh": [lambda a, b: F.tanh(a), lambda a, b: a.tanh_()],
    "where": [
        lambda a, b: torch.where(a > 0, a, b),
        lambda a, b: torch.where(a <= b, a, 0.5),
        lambda a, b: torch.where((a >= 0) & (b < 0), a, 2 * b),
        lambda a, b: torch.where(~(a > 0) | (b > 0), a, b),
        lambda a, b: torch.where(PLANE, a, b),
    ],
}
"""Functions and methods of PyTorch, by family."""
MODULES = [
    nn.CELU(0.5),
    nn.CELU(inplace=True),
    nn.ELU(),
    nn.ELU(0.5, inplace=True),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.Hardsigmoid(),
    nn.Hardswish(inplace=True),
    nn.Hardtanh(-0.5, 0.2, inplace=True),
    nn.LeakyReLU(),
    nn.LeakyReLU(0.2, inplace=True),
    nn.LogSigmoid(),
    nn.LogSoftmax(1),
    nn.Mish(inplace=True),
    nn.PReLU(),
    nn.PReLU(3),
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.ReLU6(inplace=True),
    nn.SELU(inplace=True),
    nn.SiLU(),
    nn.SiLU(inplace=True),
    nn.Sigmoid(),
    nn.Softmax(1),
    nn.Softmax2d(),
    nn.Softplus(3, 1),
    nn.Softsign(),
    nn.Tanh(),
    nn.Tanhshrink(),
]


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(form, id=f"{name}-{number}")
        for name, forms in FORMS.items()
        for number, form in enumerate(forms)
    ],
)
def test_every_function_is_planned(function):
    check_planned(Composed(function))


@pytest.mark.parametrize("module", MODULES, ids=repr)
def test_every_module_is_planned(module):
    check_planned(Composed(module=module))


def check_planned(model):
    """Check the logits and images of every engine against the network's own, in float64."""
    model = randomize(model).double().eval()
    images = torch.randint(4, (2, 1, 3, 4), dtype=torch.uint8)
    expected, what = model(images), {"n": 2, "image_size": (3, 4)}
    drawn = sampling.sample(model, **what, method="ancestral")
    for engine in ENGINES_HERE:
        found = sampling.logits(model, images, engine=engine)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(sampling.sample(model, **what, engine=engine), drawn)


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
    ("function", "says"),
    [
        (lambda a, b: torch.div(a, b, rounding_mode="floor"), r"^div .*rounding_mode='floor'"),
        (lambda a, b: torch.sin(a), r"^sin \(test_pointwise.py:\d+\): the planner does not know"),
        (lambda a, b: a.cumsum(1), r"^cumsum .* does not know this operation"),
        (lambda a, b: a.softmax(2), r"^softmax .* reduces over positions"),
        (lambda a, b: a.long() * b, r"^to_copy .* rounds torch.float32 to torch.int64"),
    ],
    ids=["div", "sin", "cumsum", "softmax", "long"],
)
def test_other_functions_are_refused_by_name(function, says):
    with pytest.raises(UnsupportedOperation, match=says):
        sampling.plan(Composed(function), (3, 4))


def test_a_weight_that_is_computed_is_planned():
    class Computed(Composed):
        def __init__(self):
            super().__init__(lambda a, b: F.prelu(a, self.out.bias[:3] * 2))

    check_planned(Computed())
