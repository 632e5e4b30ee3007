"""Tests that images, losses and trained weights of fixed models and seeds do not change.

Everything is computed in float64, where rounding does not flip a draw. After an intended change of
a result, run `python -m tests.test_golden` to write golden.json again.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import pixelsr
from pixelsr import functional
from pixelsr.data.crop import area_resize, to_tensor
from pixelsr.sampling.noise import gumbel_noise
from pixelsr.training.state import State
from pixelsr.utils.distributed import Workers
from tests.support.helpers import randomize
from tests.support.networks import NETWORKS, inputs
from tests.support.training_cases import CONFIG, random_images, small_model

GOLDEN = Path(__file__).parent / "golden.json"
RECURRENT = {
    "RowLSTM": lambda: pixelsr.RowLSTM(channels=4, layers=2, levels=8),
    "DiagonalBiLSTM": lambda: pixelsr.DiagonalBiLSTM(channels=4, layers=2, levels=8),
}
MAKERS = {**NETWORKS, **RECURRENT}
ENGINES = ("reference", "cpu")


def digest(images: Tensor) -> str:
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:16]


def make(name: str) -> nn.Module:
    return randomize(MAKERS[name]()).double().eval()


def drawn(name: str, engine: str) -> dict[str, str]:
    """Return the digests of two images of a model, and of two that keep every third value."""
    model = make(name)
    options = {"seed": 5, "temperature": 0.5, "engine": engine, **inputs(model, count=2)}
    images = pixelsr.sample(model, 2, **options)
    random = torch.Generator().manual_seed(2)
    known = torch.randint(model.levels, images.shape, dtype=torch.uint8, generator=random)
    mask = torch.rand(images.shape, generator=random) < 0.33
    completed = pixelsr.sample(model, 2, known=known, known_mask=mask, **options)
    return {"images": digest(images), "completed": digest(completed)}


def enlarged() -> str:
    """Return the digest of the bundled photo's first enlargement by the bundled model."""
    model = pixelsr.PixelRecursiveSR.from_pretrained("faces-8x32").double()
    with Image.open(Path(pixelsr.__file__).parent / "samples" / "astronaut.png") as photo:
        low_res = area_resize(to_tensor(photo.convert("RGB")), 8)[None]
    return digest(pixelsr.sample(model, 1, low_res=low_res, seed=0))


def losses(name: str) -> list[float]:
    """Return the negative log-likelihoods of four images, in nats."""
    model = make(name)
    random = torch.Generator().manual_seed(3)
    shape = (4, model.colors, 6, 4)
    images = torch.randint(model.levels, shape, dtype=torch.uint8, generator=random)
    low_res = inputs(model, count=4).get("low_res")
    with torch.no_grad():
        logits = model(images) if low_res is None else model(images, low_res)
    return functional.nll(logits, images).tolist()


def trained() -> dict[str, list[float]]:
    """Return the bits per dimension of five steps, and each weight's sum of squares afterwards.

    The first weights are random, because other processors round the default initialization
    differently.
    """
    state = State(randomize(small_model()).double(), CONFIG, Workers())
    bits = [state.advance(random_images(8, seed=step).chunk(2), lr=0.01) for step in range(5)]
    squares = [float(p.detach().square().sum()) for p in state.model.parameters()]
    return {"bits": bits, "squares": squares}


def noise() -> list[float]:
    return gumbel_noise(7, 3, 2, 5, 3, 4, torch.device("cpu")).flatten().tolist()


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MAKERS)
def test_images(golden, name, engine):
    assert drawn(name, engine) == golden["images"][name]


def test_the_bundled_model(golden):
    assert enlarged() == golden["enlarged"]


@pytest.mark.parametrize("name", MAKERS)
def test_losses(golden, name):
    assert losses(name) == pytest.approx(golden["losses"][name], rel=1e-12)


def test_training(golden):
    for key, values in trained().items():
        assert values == pytest.approx(golden["trained"][key], rel=1e-9)


def test_noise(golden):
    assert noise() == golden["noise"]


def main() -> None:
    images = {name: drawn(name, "reference") for name in MAKERS}
    results = {
        "images": images,
        "enlarged": enlarged(),
        "losses": {name: losses(name) for name in MAKERS},
        "trained": trained(),
        "noise": noise(),
    }
    GOLDEN.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
