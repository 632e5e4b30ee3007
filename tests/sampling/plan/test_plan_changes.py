"""Tests that a draw sees any change of what the network's forward can see."""

import argparse
import dataclasses
import functools
import gc
import os
import types
import weakref
from collections import deque
from contextvars import ContextVar

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import functional
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling import binding, plan
from tests.support.helpers import randomize

SCALE = 1.0
SIZE = (6, 5)


def read_scale() -> float:
    return SCALE


@dataclasses.dataclass
class Options:
    gain: float = 1.0


class Own(nn.Module):
    """A network that reads attributes, a flag, tensors of each kind, options and a global."""

    colors, levels = 1, 16
    power = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(1, 8, 3, mask_type="A", colors=1)
        self.out = MaskedConv2d(8, 16, 1, mask_type="B", colors=1)
        self.alpha, self.flag = 1.0, False
        self.options, self.space = Options(), types.SimpleNamespace(shift=[0.0])
        self.tensor = torch.ones(8, 1, 1, dtype=torch.float64)
        self.register_buffer("factor", torch.tensor(1.0))

    def forward(self, images: Tensor) -> Tensor:
        x = functional.normalize_images(images, 1, 16, self.out.weight.dtype)
        h = self.first(x) * (self.alpha * self.options.gain * self.power * self.factor.item())
        h = torch.relu(h) if self.flag else h
        h = h * self.tensor + self.space.shift[0]
        return functional.to_logits(self.out(h * SCALE * read_scale()), 1, 16)


def own() -> Own:
    return randomize(Own()).double().eval()


def draw(model: nn.Module, method: str) -> Tensor:
    return pixelsr.sample(model, 3, image_size=SIZE, seed=3, method=method)


OPERATIONS = {
    "an attribute": lambda model: setattr(model, "alpha", 5.0),
    "a flag": lambda model: setattr(model, "flag", True),
    "a buffer in place": lambda model: model.factor.mul_(3),
    "an option": lambda model: setattr(model.options, "gain", 4.0),
    "an item of a list": lambda model: model.space.shift.__setitem__(0, 2.0),
    "a mask": lambda model: setattr(model.first, "mask_type", "V-first"),
}
"""Changes of the operations of a forward, or of a number among their arguments."""
VALUES = {
    "a tensor in place": lambda model: model.tensor.mul_(3),
    "another tensor": lambda model: setattr(model, "tensor", 3 * model.tensor),
    "a parameter": lambda model: setattr(model.out, "weight", nn.Parameter(-model.out.weight)),
    "the data of a parameter": lambda model: model.out.weight.data.mul_(-1),
}
"""Changes of the values of tensors alone."""


@pytest.mark.parametrize("name", OPERATIONS | VALUES)
def test_a_change_after_the_first_draw_is_seen(name):
    model = own()
    first, made = draw(model, "cached"), plan(model, SIZE)
    (OPERATIONS | VALUES)[name](model)
    assert (plan(model, SIZE) is made) == (name in VALUES)
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))
    assert not torch.equal(draw(model, "cached"), first)


class Grouped(nn.Module):
    """A network with one matrix for all groups of channels, or a matrix for each."""

    colors, levels = 1, 4

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(1, 4, 3, mask_type="A", colors=1)
        self.weight = nn.Parameter(torch.zeros(2, 2, 2))
        self.shares = True

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images.to(self.weight.dtype)).unflatten(1, (2, 2))
        weight = self.weight[:1].expand(2, 2, 2) if self.shares else self.weight
        return torch.einsum("ngchw,goc->ngohw", x, weight).flatten(1, 2).unsqueeze(2)


def test_a_matrix_for_each_group_in_place_of_one_is_seen():
    model = randomize(Grouped()).double().eval()
    first = draw(model, "cached")
    model.shares = False
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))
    assert not torch.equal(draw(model, "cached"), first)


def test_a_class_attribute_is_seen(monkeypatch):
    model = own()
    draw(model, "cached")
    monkeypatch.setattr(Own, "power", 4.0)
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))


def test_a_global_is_seen(monkeypatch):
    model = own()
    first = draw(model, "cached")
    monkeypatch.setitem(globals(), "SCALE", 4.0)
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))
    assert not torch.equal(draw(model, "cached"), first)


def test_a_closure_is_seen():
    gain = 1.0

    class Closed(Own):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * gain

    model = randomize(Closed()).double().eval()
    draw(model, "cached")
    gain = 5.0
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))


def test_a_method_of_the_class_is_seen(monkeypatch):
    model = own()
    draw(model, "cached")
    forward = Own.forward
    monkeypatch.setattr(Own, "forward", lambda self, images: forward(self, images) * 3)
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))


def mirrored(x: Tensor) -> Tensor:
    return -x if x.is_floating_point() else 15 - x


HOOKS = {
    "register_forward_hook": lambda module, inputs, output: 3 * output,
    "register_forward_pre_hook": lambda module, inputs: tuple(map(mirrored, inputs)),
}


@pytest.mark.parametrize("warm", [True, False], ids=["after a draw", "fresh"])
@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("where", ["model", "layer", "everywhere"])
def test_hooks_run(kind, where, warm):
    model = own()
    without = draw(model, "cached") if warm else draw(model, "ancestral")
    owner = {"model": model, "layer": model.out, "everywhere": torch.nn.modules.module}[where]
    name = kind.replace("register", "register_module") if where == "everywhere" else kind
    handle = getattr(owner, name)(HOOKS[kind])
    try:
        drawn = draw(model, "cached")
        assert torch.equal(drawn, draw(model, "ancestral"))
        assert not torch.equal(drawn, without)
    finally:
        handle.remove()
    assert torch.equal(draw(model, "cached"), without)


def test_a_global_hook_is_seen_by_a_library_network():
    model = randomize(pixelsr.PixelCNN(channels=4, layers=1, levels=8)).double().eval()
    without = draw(model, "cached")
    handle = torch.nn.modules.module.register_module_forward_hook(HOOKS["register_forward_hook"])
    try:
        assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))
    finally:
        handle.remove()
    assert torch.equal(draw(model, "cached"), without)


@pytest.mark.parametrize("warm", [True, False], ids=["after a draw", "fresh"])
def test_a_forward_of_an_instance_is_seen(warm):
    model = own()
    without = draw(model, "cached") if warm else draw(model, "ancestral")
    layer = model.out.forward
    model.out.forward = lambda x: -layer(x)
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))
    assert not torch.equal(draw(model, "cached"), without)
    del model.out.forward
    plain = model.forward
    model.forward = lambda images: plain(images) * -3
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))
    assert not torch.equal(draw(model, "cached"), without)
    del model.forward
    assert torch.equal(draw(model, "cached"), without)


def test_a_backward_hook_changes_nothing():
    model = own()
    model.out.register_full_backward_hook(lambda *arguments: None)
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))


def test_an_unchanged_network_keeps_its_plan():
    model = own()
    made = plan(model, SIZE)
    draw(model, "cached")
    with torch.no_grad():
        model.out.weight.mul_(2)  # a plan refers to parameters by name
    assert plan(model, SIZE) is made


def test_plans_of_many_sizes_are_not_all_kept():
    model = own()
    made = [plan(model, (2, width)) for width in range(1, 12)]
    assert plan(model, (2, 11)) is made[-1]
    assert plan(model, (2, 1)) is not made[0]


def test_a_model_that_was_planned_is_freed():
    model = own()
    draw(model, "cached")
    reference = weakref.ref(model)
    del model
    gc.collect()
    gc.collect()  # frees what the first collection released
    assert reference() is None


# Everything that a forward may read.


class Namespace:
    alpha = 1.0


class Slots:
    __slots__ = ("alpha",)

    def __init__(self) -> None:
        self.alpha = 1.0


class Helper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alpha = 1.0


def set_environment(value: float) -> None:
    os.environ["PIXELSR_TEST_ALPHA"] = str(value)


MODULE = types.ModuleType("settings")
ARGUMENTS, SLOTS, DEQUE, HIDDEN = argparse.Namespace(), Slots(), deque([1.0]), [Helper()]
CONTEXT: ContextVar[float] = ContextVar("alpha", default=1.0)
WAYS = {
    "a module": (lambda: MODULE.alpha, lambda value: setattr(MODULE, "alpha", value)),
    "a class": (lambda: Namespace.alpha, lambda value: setattr(Namespace, "alpha", value)),
    "argparse": (lambda: ARGUMENTS.alpha, lambda value: setattr(ARGUMENTS, "alpha", value)),
    "slots": (lambda: SLOTS.alpha, lambda value: setattr(SLOTS, "alpha", value)),
    "a deque": (lambda: DEQUE[0], lambda value: DEQUE.__setitem__(0, value)),
    "a hidden module": (lambda: HIDDEN[0].alpha, lambda value: setattr(HIDDEN[0], "alpha", value)),
    "the environment": (lambda: float(os.environ["PIXELSR_TEST_ALPHA"]), set_environment),
    "a context": (CONTEXT.get, CONTEXT.set),
    "a comprehension": (lambda: sum(MODULE.alpha for _ in range(1)), MODULE.__setattr__),
}


@pytest.mark.parametrize("way", WAYS)
def test_values_from_anywhere_are_seen(way):
    read, write = WAYS[way]
    write = functools.partial(write, "alpha") if way == "a comprehension" else write

    class Reads(Own):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * read()

    model = randomize(Reads()).double().eval()
    write(1.0)
    first = draw(model, "cached")
    write(-5.0)
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))
    assert not torch.equal(draw(model, "cached"), first)


class Shared(Own):
    def __init__(self) -> None:
        super().__init__()
        self.b, self.c = (MaskedConv2d(8, 8, 3, mask_type="B", colors=1) for _ in range(2))
        self.which = self.b

    def forward(self, images: Tensor) -> Tensor:
        x = functional.normalize_images(images, 1, 16, self.out.weight.dtype)
        h = torch.tanh(self.c(torch.tanh(self.b(self.first(x)))))
        h = h if self.which is None else self.which(h)
        return functional.to_logits(self.out(h), 1, 16)


def test_a_shared_layer_that_is_swapped_is_seen():
    model = randomize(Shared()).double().eval()
    draw(model, "cached")
    for layer in (model.c, None, model.b):
        model.which = layer
        assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))


@pytest.mark.parametrize("weights", ["float16", "bfloat16"])
def test_copies_with_rounded_weights_follow_the_model(weights):
    model = own()
    for alpha in (1.0, -5.0):
        model.alpha = alpha
        what = {"image_size": SIZE, "weights": weights}
        drawn = pixelsr.sample(model, 3, **what, engine="reference")
        assert torch.equal(drawn, pixelsr.sample(model, 3, **what, method="ancestral"))


def test_a_library_network_is_not_followed_again(monkeypatch):
    model = randomize(pixelsr.PixelCNN(channels=4, layers=1, levels=8)).eval()
    made = plan(model, SIZE)
    monkeypatch.setattr(binding, "run", lambda *_, **__: pytest.fail("followed"))
    assert plan(model, SIZE) is made
    model.note = lambda: None  # anything may read it
    with pytest.raises(pytest.fail.Exception, match="followed"):
        plan(model, SIZE)


def test_planning_leaves_the_model_as_it_was():
    class Caching(Own):
        kept = None

        def forward(self, images: Tensor) -> Tensor:
            self.kept = super().forward(images) + torch.ones(1, dtype=torch.float64)
            return self.kept

    model = randomize(Caching()).double().eval()
    before = set(vars(model))
    plan(model, SIZE)
    assert set(vars(model)) == before
    assert torch.equal(draw(model, "cached"), draw(model, "ancestral"))
