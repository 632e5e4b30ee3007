"""Tests of recording: what a tape holds, what a pass that follows it computes, what is refused."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pixelsr import functional
from pixelsr.errors import PlanError, UnsupportedOperation
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling import plan
from pixelsr.sampling.plan.tape import Pass, TapeChanged, run

IMAGES = torch.randint(4, (1, 1, 3, 5), dtype=torch.uint8, generator=torch.Generator())
LOW = torch.tensor([[[[1, 2], [3, 0]]]], dtype=torch.uint8)


class Net(nn.Module):
    """A network with a function as its forward, and some parameters and buffers."""

    colors, levels = 1, 4

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.gates = MaskedConv2d(1, 8, 3, mask_type="A", colors=1)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("mask", (torch.arange(9) < 4).float().view(3, 3))
        self.register_buffer("state", torch.zeros(1, 1, 3, 5))

    def forward(self, images: Tensor, *inputs: Tensor) -> Any:
        return self.function(self, images.to(self.conv.weight.dtype), *inputs)


def names(passed: Pass) -> list[str]:
    return [entry.name for entry in passed.tape.entries]


def recorded(function: Callable[..., Any], *inputs: Tensor) -> tuple[Net, Pass]:
    net = Net(function)
    return net, run(net, IMAGES, inputs)


# What a tape holds.


def masked(net: Net, x: Tensor) -> Tensor:
    net.conv.weight.data.mul_(net.mask)
    plane = torch.linspace(-1, 1, x.shape[3]).expand_as(x[0])
    return F.conv2d(x, net.conv.weight * 2, padding=1) + plane


def test_constants_vanish():
    net, passed = recorded(masked)
    assert names(passed) == ["to_copy", "convolution", "add"]
    weight, plane = passed.constants
    assert torch.equal(weight, net.conv.weight * 2)
    assert torch.equal(plane, torch.linspace(-1, 1, 5).expand(1, 3, 5))
    assert torch.equal(passed.logits, net(IMAGES))


def test_a_constant_that_is_changed_between_two_uses_is_two():
    def changed(net: Net, x: Tensor) -> Tensor:
        scale = torch.ones(3, 5)
        first = x * scale
        scale.data.mul_(2)  # raises no version counter
        second = x * scale
        scale.mul_(2)
        return first + second + x * scale

    _, passed = recorded(changed)
    assert [float(each[0, 0]) for each in passed.constants] == [1, 2, 4]
    assert torch.equal(passed.logits, 7 * IMAGES.float())


def test_a_network_made_in_inference_mode_is_recorded():
    with torch.inference_mode():  # its tensors have no version
        net = Net(masked)
    net.conv.weight.data = net.conv.weight.clone()  # the forward writes to it
    passed = run(net, IMAGES)
    assert net.mask.is_inference()
    assert torch.equal(run(net, IMAGES, follow=passed.tape).logits, passed.logits)
    plain = Net(lambda net, x: net.conv(x))
    with torch.inference_mode():
        plain.conv = nn.Conv2d(1, 4, 3)
    assert [each.is_inference() for each in run(plain, IMAGES).constants] == [True, True]


def test_views_and_other_functions_of_shapes_vanish():
    def viewed(net: Net, x: Tensor) -> Tensor:
        return x.view(-1).unflatten(0, x.shape).transpose(2, 3).mT[..., :] + torch.zeros_like(x)

    _, passed = recorded(viewed)
    assert names(passed) == ["to_copy", "add"]


def test_functions_of_the_library_are_recorded_whole():
    def whole(net: Net, x: Tensor) -> Tensor:
        y = functional.row_lstm(net.gates(x), torch.zeros(8, 2, 1), torch.zeros(2, 2))
        one_hot = F.one_hot(x[:, 0].long(), 4)  # which checks the range of its argument
        return functional.gate(y) + one_hot.permute(0, 3, 1, 2)[:, :1]

    _, passed = recorded(whole)
    assert names(passed) == [
        *("to_copy", "masked_conv2d", "row_lstm", "to_copy", "one_hot", "gate", "add")
    ]


def test_an_entry_says_which_layer_calls_it_and_where():
    _, passed = recorded(lambda net, x: net.conv(x))
    [*_, entry] = passed.tape.entries
    assert entry.module == "conv"
    assert entry.source.startswith("test_tape.py:")
    assert "convolution in layer 'conv' (test_tape.py:" in str(entry.unsupported("is odd"))


def test_a_new_tensor_may_take_values_of_the_images():
    def filled(net: Net, x: Tensor) -> Tensor:
        made = torch.ones(1, 2, 3, 5)
        made[:, :1] = x
        made[:, 1].add_(x[:, 0])
        return made

    _, passed = recorded(filled)
    assert names(passed) == ["to_copy", "promote", "copy", "add"]
    assert torch.equal(passed.logits, torch.cat([IMAGES, 1 + IMAGES], 1).float())


# Conditions.


def test_values_of_conditions_join_the_tape():
    def read(net: Net, x: Tensor, low: Tensor) -> Tensor:
        x = x * low.float().mean().item() + low.flatten().tolist()[2]
        return -x if low.sum() > 5 else x

    net, passed = recorded(read, LOW)
    assert passed.tape.values == (1.5, [1, 2, 3, 0], True)
    run(net, IMAGES, (LOW,), follow=passed.tape)
    for other in (LOW.flip(3), LOW + 1):  # other items, other means
        with pytest.raises(TapeChanged):
            run(net, IMAGES, (other,), follow=passed.tape)


def test_a_value_of_a_condition_that_only_python_sees_joins_the_tape():
    net, passed = recorded(lambda net, x, low: x * (low.sum() > 5).item() ** 0, LOW)
    with pytest.raises(TapeChanged):
        run(net, IMAGES, (LOW // 2,), follow=passed.tape)


def test_conditions_may_have_other_values():
    net, passed = recorded(lambda net, x, low: x * low.float().mean().exp(), LOW)
    assert names(passed) == ["to_copy", "mul"]
    again = run(net, IMAGES, (2 * LOW,), follow=passed.tape)
    assert [len(passed.constants), len(passed.conditions)] == [0, 1]
    assert torch.equal(again.conditions[0], torch.tensor(3.0).exp())
    assert again.tape is passed.tape


def test_other_operations_on_conditions_are_another_tape():
    net, passed = recorded(lambda net, x, low: x * net.of_low(low.float()), LOW)
    net.of_low = torch.sum
    with pytest.raises(TapeChanged):
        run(net, IMAGES, (LOW,), follow=passed.tape)


Net.of_low = staticmethod(torch.mean)


# Passes that follow.


class Executed(TorchDispatchMode):
    """A mode that counts the operations that are executed."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


def scaled(net: Net, x: Tensor) -> Tensor:
    y = torch.relu_(F.conv2d(x, net.conv.weight.exp(), padding=1))
    return y.view(1, 4, 15).transpose(1, 2) * net.mask.sum()


def test_a_pass_that_is_not_executed_computes_the_constants_alone():
    net, passed = recorded(scaled)
    nn.init.constant_(net.conv.weight, 2)
    with Executed() as executed:
        followed = run(net, IMAGES, follow=passed.tape, execute=False)
    assert executed.counts["exp"] == executed.counts["sum"] == 1
    assert not any(executed.counts[name] for name in ("convolution", "relu_", "mul", "_to_copy"))
    assert torch.equal(followed.constants[0], torch.full((4, 1, 3, 3), 2.0).exp())
    assert followed.logits.shape == passed.logits.shape
    with Executed() as executed:
        run(net, IMAGES, follow=passed.tape)
    assert executed.counts["convolution"] == executed.counts["mul"] == 1


def test_results_of_entries_are_captured():
    net, passed = recorded(scaled)
    number = names(passed).index("convolution")
    again = run(net, IMAGES, follow=passed.tape, capture=[number])
    expected = F.conv2d(IMAGES.float(), net.conv.weight.exp(), padding=1)  # before the ReLU
    assert torch.equal(again.captured[number][0], expected)
    assert torch.equal(again.logits, passed.logits)


def test_a_copy_in_another_dtype_follows():
    net, passed = recorded(scaled)
    followed = run(net.double(), IMAGES, follow=passed.tape, execute=False)
    assert followed.constants[0].dtype == followed.logits.dtype == torch.float64


CHANGES = {
    "operation": lambda x: x.sigmoid(),
    "none": lambda x: x,
    "one more": lambda x: x.tanh().tanh(),
    "number": lambda x: x.tanh() * 3,
    "integer": lambda x: x.tanh() * 2,
    "shape": lambda x: x.expand(1, 2, 3, 5).tanh() * 2.0,
    "view": lambda x: x.mT.tanh() * 2.0,
    "constant": lambda x: x.tanh() * torch.tensor(2.0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("execute", [True, False])
def test_another_operation_or_argument_is_another_tape(execute, change):
    net, passed = recorded(lambda net, x: x.tanh() * 2.0)
    run(net, IMAGES, follow=passed.tape, execute=execute)
    net.function = lambda net, x: change(x)
    with pytest.raises(TapeChanged):
        run(net, IMAGES, follow=passed.tape, execute=execute)


# What is refused.


def branch(net: Net, x: Tensor) -> Tensor:
    return x if (x > 0).any() else -x


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: x * x.sum().item(),
        lambda net, x: x * int(x.max()),
        lambda net, x: x * float(x[0, 0, 0, 0]),
        lambda net, x: x * x.flatten().tolist()[0],
        lambda net, x: x * torch.from_numpy(x.numpy()),
        lambda net, x: x[:, :, : x.argmax()],
        lambda net, x: x * torch.equal(x, x),
        branch,
    ],
    ids=["item", "int", "float", "tolist", "numpy", "index", "equal", "bool"],
)
def test_values_of_images_in_python_are_refused(function):
    with pytest.raises(UnsupportedOperation, match="turns values of the images into Python values"):
        recorded(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: net.dropout(x),
        lambda net, x: x + torch.randn_like(x),
        lambda net, x: x + torch.rand(3, 5),
        lambda net, x: x + torch.randperm(5),
    ],
    ids=["dropout", "randn_like", "rand", "randperm"],
)
def test_random_numbers_are_refused(function):
    with pytest.raises(UnsupportedOperation, match=r"draws random numbers; call model.eval\(\)"):
        recorded(function)


def written_data(net: Net, x: Tensor) -> Tensor:
    net.conv.bias.data[:1] = x[0, 0, 0, :1]
    return x


@pytest.mark.parametrize(
    "function",
    [
        lambda net, x: net.state.copy_(x),
        lambda net, x: net.state[:, :, :1].add_(x[:, :, :1]) + x,
        lambda net, x: torch.mul(x, 2, out=net.state),
        written_data,
    ],
    ids=["copy", "a view", "out", "data"],
)
def test_values_of_images_that_outlive_a_forward_are_refused(function):
    net = Net(function)
    bias = net.conv.bias.clone()
    with pytest.raises(UnsupportedOperation, match="into a tensor that outlives the forward pass"):
        run(net, IMAGES)
    assert not net.state.any()
    assert torch.equal(net.conv.bias, bias)


@pytest.mark.parametrize("value", [(None, None), [None], {"logits": None}, None])
def test_other_results_than_a_tensor_are_refused(value):
    with pytest.raises(PlanError, match=f"returns a {type(value).__name__}, expected logits alone"):
        recorded(lambda net, x: value)


class Logits(Net):
    """A causal network with a function of the image that adds zero."""

    def forward(self, images: Tensor) -> Tensor:
        zero = 0 * self.function(self, images)
        return functional.to_logits(self.gates(images.float())[:, :4], 1, 4) + zero


def of_largest(net: Net, images: Tensor) -> Tensor:
    return F.one_hot(images.long()).sum(-1)[:, None, :, :1, :1]  # as many classes as levels occur


def counted(net: Net, images: Tensor) -> Tensor:
    net.count = getattr(net, "count", 0) + 1
    return images[:, :, :1, :1].float() * net.count


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (of_largest, "computes something else for other images: it branches on their values"),
        (counted, "gives different logits for the same images"),
    ],
    ids=["another tape", "not deterministic"],
)
def test_networks_that_compute_something_else_at_another_time_are_refused(function, says):
    with pytest.raises(PlanError, match=f"^Logits cannot be planned: its forward {says}"):
        plan(Logits(function), (3, 5))
    assert plan(Logits(lambda net, images: 1), (3, 5)).macs
