"""Tests of networks that others publish, adapted unmodified; their own loops say what is right."""

import functools
import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pixelsr
from pixelsr import ops, sampling
from pixelsr.sampling.noise import gumbel_noise
from tests.support.foreign import layouts, refused
from tests.support.foreign.dilated_gated import Dilated
from tests.support.foreign.families import FAMILIES, FAULTY
from tests.support.foreign.family import draw, live_macs, randomize_all
from tests.support.helpers import slow
from tests.support.sampling import masks, random_images

pytestmark = pytest.mark.usefixtures("one_thread")

ENGINES = ["reference"] if ops.WHY_NOT_COMPILED else ["reference", "cpu"]
SIZES = [(6, 6), (5, 7), (7, 4), (6, 1), (1, 6), (1, 1)]
SIZE = (5, 7)
SAMPLES, SEED = 2, 3
KNOWN = ["upper half", "hole"]


def cases():
    """Return pairs of a family and a size; the layouts are drawn at one size, unless slow."""
    return [
        pytest.param(name, size, id=f"{name}, {size[0]}x{size[1]}", marks=marks(name, size))
        for name in FAMILIES
        for size in SIZES
    ]


def marks(name: str, size: tuple[int, int]) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if name in layouts.FAMILIES and size != SIZE else []


@functools.cache
def adapted(name: str, size: tuple[int, int] = SIZE) -> nn.Module:
    family = FAMILIES[name]
    return pixelsr.adapt(family.network(size), **family.adapt)


def given(name: str, size: tuple[int, int], mask: str | None) -> dict[str, Tensor]:
    """Return the known values of a mask's name as arguments of `pixelsr.sample`."""
    if mask is None:
        return {}
    model = adapted(name, size)
    known_mask = masks((SAMPLES, model.colors, *size))[mask]
    return {"known": random_images(model, SAMPLES, size), "known_mask": known_mask}


def noise_of(model: nn.Module, size: tuple[int, int]) -> Tensor:
    positions = size[0] * size[1] * model.colors
    return gumbel_noise(SEED, 0, SAMPLES, 0, positions, model.levels, torch.device("cpu"))


@functools.cache
def own_images(
    name: str, size: tuple[int, int] = SIZE, mask: str | None = None, temperature: float = 1.0
) -> Tensor:
    """Return the images of the author's own loop."""
    family, model, known = FAMILIES[name], adapted(name, size), given(name, size, mask)
    images = torch.full((SAMPLES, model.colors, *size), -1)
    if known:
        images = torch.where(known["known_mask"], known["known"].long(), -1)
    network = family.network(size)
    return family.own_loop(network, images, noise_of(model, size), temperature).to(torch.uint8)


def sample(
    name: str,
    size: tuple[int, int] = SIZE,
    mask: str | None = None,
    temperature: float = 1.0,
    **how: str,
) -> Tensor:
    known = given(name, size, mask)
    options = {"image_size": size, "seed": SEED, "temperature": temperature, **known, **how}
    return pixelsr.sample(adapted(name, size), SAMPLES, **options)


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)


# Images.


@pytest.mark.parametrize(("name", "size"), cases())
def test_ancestral_sampling_draws_the_images_of_the_own_loop(name, size):
    assert torch.equal(sample(name, size, method="ancestral"), own_images(name, size))


@pytest.mark.parametrize(("name", "size"), cases())
@pytest.mark.parametrize("engine", ENGINES)
def test_cached_sampling_draws_the_images_of_the_own_loop(engine, name, size):
    assert torch.equal(sample(name, size, engine=engine), own_images(name, size))


@pytest.mark.parametrize("temperature", [0.5, slow(1.0), slow(0)])
@pytest.mark.parametrize("mask", KNOWN)
@pytest.mark.parametrize("name", FAMILIES)
def test_ancestral_sampling_keeps_known_values(name, mask, temperature):
    expected = own_images(name, SIZE, mask, temperature)
    drawn = sample(name, SIZE, mask, temperature, method="ancestral")
    assert torch.equal(drawn, expected)


@pytest.mark.parametrize("temperature", [0.5, 0, slow(1.0)])
@pytest.mark.parametrize("mask", [None, *KNOWN])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_cached_sampling_keeps_known_values(engine, name, mask, temperature):
    expected = own_images(name, SIZE, mask, temperature)
    assert torch.equal(sample(name, SIZE, mask, temperature, engine=engine), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_past_matters_to_the_images(name):
    """Check that the other tests can fail: equal noise after other rows gives other images."""
    network, model = FAMILIES[name].network(SIZE), adapted(name)
    images, noise = torch.full((SAMPLES, model.colors, *SIZE), -1), noise_of(model, SIZE)
    drawn = []
    for value in (0, model.levels - 1):
        images[:, :, :2] = value
        drawn.append(FAMILIES[name].own_loop(network, images, noise, 1.0)[:, :, 2:])
    assert not torch.equal(*drawn)


# Logits.


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_one_forward_pass(name, engine):
    model = adapted(name)
    images = random_images(model, 3, SIZE)
    found = sampling.logits(model, images, engine=engine)
    torch.testing.assert_close(found, forward(model, images), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FAMILIES)
def test_steps_draw_the_images_of_the_own_loop(name, engine):
    model = adapted(name)
    state = sampling.start(model, SAMPLES, image_size=SIZE, engine=engine)
    free, noise = torch.full((SAMPLES,), -1), noise_of(model, SIZE)
    logits = state.step()
    while logits is not None:
        row, col, color = state.position
        position = (row * SIZE[1] + col) * model.colors + color
        logits = state.step(draw(logits, noise[:, position], 1.0, free))
    assert torch.equal(state.images, own_images(name))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FAMILIES)
def test_edits_equal_one_forward_pass(name, engine):
    model, generator = adapted(name), torch.Generator().manual_seed(0)
    images = random_images(model, 2, SIZE)
    state = sampling.incremental_logits(model, images, engine=engine)
    for seed, share in enumerate((0.03, 0.3, 1)):
        values = random_images(model, 2, SIZE, seed=10 + seed)
        mask = torch.rand(images.shape, generator=generator) < share
        state.edit(values, mask)
        images = torch.where(mask, values, images)
        expected = forward(model, images)
        torch.testing.assert_close(state.logits, expected, rtol=1e-11, atol=1e-11)


class InsistsOnFloat32(nn.Module):
    """A network that converts its input to float32, so that it cannot run in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.net = layouts.LaidOut(layouts.ChannelsLast())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.float() / (layouts.LEVELS - 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_that_insists_on_float32(engine):
    network = randomize_all(InsistsOnFloat32(), 0).eval()
    model = pixelsr.adapt(network, **{**layouts.ADAPT, "inputs": "integers"})
    images = random_images(model, 3, SIZE)
    found = sampling.logits(model, images, engine=engine)
    torch.testing.assert_close(found, forward(model, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_multiply_adds_are_the_live_taps(name):
    size = (9, 10)
    family, model = FAMILIES[name], adapted(name, size)
    others = (pixelsr.adapt(family.network(size, seed), **family.adapt) for seed in range(4))
    least, most = live_macs(others, random_images(model, 8, size))
    least -= family.constant_taps * size[0] * size[1]
    most += family.summed_channels * size[0] * size[1]
    assert least <= sampling.plan(model, size).macs <= most


# Causality.


@pytest.mark.parametrize("name", FAMILIES)
def test_check_causality_accepts_each_family(name):
    has_batch_norm = any(isinstance(m, nn.BatchNorm2d) for m in adapted(name).modules())
    if not has_batch_norm:
        pixelsr.check_causality(adapted(name, (4, 5)), (4, 5))
        return
    with pytest.raises(pixelsr.CausalityError) as error:  # of train mode alone
        pixelsr.check_causality(adapted(name, (4, 5)), (4, 5))
    assert error.value.mode == "train"


@pytest.mark.parametrize("name", FAULTY)
def test_check_causality_refuses_each_faulty_variant(name):
    size = (4, 5)
    model = pixelsr.adapt(FAULTY[name].network(size), **FAULTY[name].adapt)
    with pytest.raises(pixelsr.CausalityError, match="reads") as error:
        pixelsr.check_causality(model, size)
    assert error.value.mode == "eval"


@pytest.mark.parametrize("name", FAULTY)
def test_cached_sampling_refuses_each_faulty_variant(name):
    model = pixelsr.adapt(FAULTY[name].network(SIZE), **FAULTY[name].adapt)
    error = pixelsr.NotCausal if FAULTY[name].is_known else pixelsr.PlanError
    with pytest.raises(error, match="read" if FAULTY[name].is_known else ""):
        pixelsr.sample(model, image_size=SIZE)


# Refusals.


@pytest.mark.parametrize("name", refused.OPERATIONS)
def test_a_refusal_names_operation_module_and_line(name):
    make, operation, source = refused.OPERATIONS[name]
    network = randomize_all(refused.Refused(make()), 0).double().train()
    model = pixelsr.adapt(network, **refused.ADAPT)
    with pytest.raises(pixelsr.PlanError, match=f"(?i){operation}") as error:
        pixelsr.sample(model, image_size=SIZE)
    message = str(error.value)
    assert "body" in message
    assert re.search(rf"{re.escape(source)}:\d+", message)
    assert "ancestral" in message


def test_a_network_that_draws_noise_is_refused():
    network = randomize_all(refused.Refused(refused.Noise()), 0).double()
    with pytest.raises(pixelsr.PlanError):
        pixelsr.sample(pixelsr.adapt(network, **refused.ADAPT), image_size=SIZE)


# Published weights.


def published(folder: Path) -> Dilated:
    """Return the tutorial's network for MNIST, with the weights that its author published."""
    saved = torch.load(folder / "PixelCNN.ckpt", weights_only=True, map_location="cpu")
    network = Dilated()
    network.load_state_dict(saved["state_dict"])
    return network.eval()


def mnist_test_images(folder: Path, count: int) -> Tensor:
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + count * 28 * 28)[16:], np.uint8)
    return torch.from_numpy(pixels.copy()).view(count, 1, 28, 28)


@pytest.fixture(scope="module")
def shared_data() -> Path:
    folder = Path(os.environ.get("PIXELSR_TEST_DATA", ""))
    needed = [folder / "uva_pixelcnn" / "PixelCNN.ckpt", folder / "mnist"]
    if "PIXELSR_TEST_DATA" not in os.environ or not all(path.exists() for path in needed):
        pytest.skip("PIXELSR_TEST_DATA names no folder with uva_pixelcnn and mnist")
    return folder


@torch.no_grad()
def bits_per_dim(model: nn.Module, images: Tensor) -> float:
    losses = [F.cross_entropy(model(part), part.long()) for part in images.split(50)]
    return float(torch.stack(losses).mean() / np.log(2))


@pytest.mark.parametrize(("count", "expected"), [(200, 0.807), slow(1000, 0.799)])
def test_published_weights_have_the_published_likelihood(shared_data, count, expected):
    network = published(shared_data / "uva_pixelcnn")
    model = pixelsr.adapt(network, colors=1, levels=256, inputs="integers", outputs="logits")
    images = mnist_test_images(shared_data / "mnist", count)
    assert bits_per_dim(model, images) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_published_weights_give_the_logits_of_their_forward(shared_data, engine):
    network = published(shared_data / "uva_pixelcnn").double()
    model = pixelsr.adapt(network, colors=1, levels=256, inputs="integers", outputs="logits")
    images = mnist_test_images(shared_data / "mnist", 2)
    found = sampling.logits(model, images, engine=engine)
    torch.testing.assert_close(found, forward(model, images), rtol=1e-11, atol=1e-11)
