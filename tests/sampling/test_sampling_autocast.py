"""Tests that sampling ignores the caller's autocast, and leaves it unchanged."""

import contextlib

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import ops, sampling
from pixelsr.sampling.api import sample_distributed
from pixelsr.utils.distributed import Workers
from tests.support import networks

SHARP = 0.002
"""A temperature at which bfloat16 logits give different images."""
ON = torch.device("cpu").type, torch.bfloat16
NETWORKS = ["GatedPixelCNN", "PixelRecursiveSR-gated"]
ENGINES = [
    "reference",
    pytest.param("cpu", marks=pytest.mark.skipif(bool(ops.WHY_NOT_COMPILED), reason="not built")),
]


def network(name: str) -> nn.Module:
    """Return a new network, so that a plan under autocast is made there."""
    return networks.network(name, torch.float32)


def random_images(model: nn.Module) -> dict[str, Tensor | None]:
    low_res = networks.inputs(model, 2).get("low_res")
    generator = torch.Generator().manual_seed(2)
    shape = (2, model.colors, 6, 4)
    images = torch.randint(model.levels, shape, dtype=torch.uint8, generator=generator)
    return {"images": images, "low_res": low_res}


@contextlib.contextmanager
def autocast():
    """Turn autocast on, and check that it is still on at the end."""
    with torch.autocast(*ON):
        yield
        assert_on()
    assert not torch.is_autocast_enabled("cpu")


def assert_on():
    assert torch.is_autocast_enabled("cpu")
    assert torch.get_autocast_dtype("cpu") == torch.bfloat16
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def same(call, name: str) -> None:
    """Check that a call gives the same result for a new network under autocast."""
    expected = call(network(name))
    with autocast():
        found = call(network(name))
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("how", [*ENGINES, "ancestral"])
def test_samples(how, name):
    way = {"method": how} if how == "ancestral" else {"engine": how}

    def call(model: nn.Module) -> Tensor:
        return pixelsr.sample(
            model, 48, temperature=SHARP, **way, **networks.inputs(model, 1, (2, 4))
        )

    same(call, name)


def test_samples_of_workers():
    def call(model: nn.Module) -> Tensor:
        what = networks.inputs(model, 1, (2, 4))
        return sample_distributed(Workers(), model, 48, temperature=SHARP, **what)

    same(call, "PixelRecursiveSR-gated")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("engine", ENGINES)
def test_logits(engine, name):
    same(lambda model: sampling.logits(model, engine=engine, **random_images(model)), name)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("engine", ENGINES)
def test_steps_and_autocast_between_them(engine, name):
    def start(model: nn.Module) -> sampling.State:
        return sampling.start(model, 2, engine=engine, **networks.inputs(model))

    theirs = start(network(name))
    expected = [theirs.step()]
    while expected[-1] is not None:
        expected.append(theirs.step(expected[-1].argmax(-1)))
    with autocast():
        ours = start(network(name))
        step = ours.step()
        for right in expected[:-1]:
            assert_on()
            assert step.dtype == right.dtype
            assert torch.equal(step, right)
            step = ours.step(step.argmax(-1))
        assert step is None


def test_autocast_that_is_on_for_some_steps_alone():
    model = network("GatedPixelCNN")
    options = {"image_size": (6, 4), "engine": "reference"}
    ours, theirs = (sampling.start(model, **options) for _ in range(2))
    step, right = ours.step(), theirs.step()
    for number in range(6 * 4 * 3):
        assert torch.equal(step, right)
        with autocast() if number % 3 else contextlib.nullcontext():
            step = ours.step(step.argmax(-1))
        right = theirs.step(right.argmax(-1))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("engine", ENGINES)
def test_edited_images(engine, name):
    def call(model: nn.Module) -> Tensor:
        given = random_images(model)
        state = sampling.incremental_logits(model, engine=engine, **given)
        before = state.logits.clone()
        mask = torch.zeros_like(given["images"], dtype=torch.bool)
        mask[:, :, 2:4, 1] = True
        state.edit(given["images"].flip(0), mask)
        return torch.stack([before, state.logits])

    same(call, name)


class Faint(nn.Module):
    """A network that reads changes of the left pixel too small for bfloat16."""

    colors, levels = 1, 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 0.0, 0.0]).expand(2, 1, 1, 3).clone())

    def forward(self, images: Tensor) -> Tensor:
        x = 1 + images.float() / 2**14
        return nn.functional.conv2d(x, self.weight.float(), padding=(0, 1)).unsqueeze(2)


def test_what_a_network_reads():
    expected = pixelsr.check_causality(Faint(), (2, 2)).reads
    assert expected.sum() == 2
    with autocast():
        assert torch.equal(pixelsr.check_causality(Faint(), (2, 2)).reads, expected)
        assert pixelsr.receptive_field(Faint(), (3, 3)).nonzero().tolist() == [[1, 0]]


def test_a_plan_that_is_made_under_autocast():
    def call(model: nn.Module) -> Tensor:
        sampling.plan(model, (6, 4))
        return sampling.logits(model, **random_images(model))

    same(call, "GatedPixelCNN")
