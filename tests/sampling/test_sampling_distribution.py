"""Tests of samples against the probabilities of all 3x3 images of one color and two levels."""

import itertools

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import sampling
from pixelsr.functional import nll
from pixelsr.models import GatedPixelCNN
from tests.support.engines import for_engines
from tests.support.helpers import randomize, slow


def tiny_model() -> nn.Module:
    """Return a network without biases, which would outweigh the past."""
    sizes = {"channels": 6, "layers": 2, "kernel_size": 3, "head_channels": 8}
    model = randomize(GatedPixelCNN(**sizes, colors=1, levels=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return model.double().eval()


def all_images() -> Tensor:
    bits = torch.tensor(list(itertools.product((0, 1), repeat=9)), dtype=torch.uint8)
    return bits.view(512, 1, 3, 3)


SHARP = 0.1  # low enough to expose a sampler that ignores the past


def probabilities(model: nn.Module) -> Tensor:
    with torch.inference_mode():
        return (-nll(model(all_images()) / SHARP, all_images())).exp()


def chi_square_p(counts: Tensor, expected: Tensor) -> float:
    """Return the p-value of counts against expected ones; bins below 10 are pooled."""
    small = expected < 10
    counts = torch.cat([counts[~small], counts[small].sum().view(1)])
    expected = torch.cat([expected[~small], expected[small].sum().view(1)])
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


def counts_of(images: Tensor) -> Tensor:
    index = (images.flatten(1).long() * (2 ** torch.arange(8, -1, -1))).sum(1)
    return torch.bincount(index, minlength=512).double()


def test_probabilities_of_all_images_sum_to_one():
    assert probabilities(tiny_model()).sum().item() == pytest.approx(1, abs=1e-12)


@for_engines("n", [20_000], triton=[slow(4_000)], cuda=[4_000])
def test_sample_frequencies_match_the_probabilities(engine, n):
    model, own = tiny_model(), engine.own(tiny_model())
    options = {"image_size": (3, 3), "temperature": SHARP, "engine": engine.name}
    images = pixelsr.sample(own, n, **options).cpu()
    assert chi_square_p(counts_of(images), probabilities(model) * n) > 1e-3


@pytest.mark.parametrize("wrong", ["floor of the expectation", "the past ignored"])
def test_a_wrong_sampler_does_not_match_the_probabilities(wrong):
    model, n = tiny_model(), 5_000
    state = sampling.start(model, n, image_size=(3, 3))
    logits, generator = state.step(), torch.Generator().manual_seed(0)
    while logits is not None:
        p = (logits / SHARP).softmax(-1)
        if wrong == "floor of the expectation":
            values = p[:, 1].floor().long()
        else:
            values = p.mean(0).multinomial(n, replacement=True, generator=generator)
        logits = state.step(values)
    assert chi_square_p(counts_of(state.images), probabilities(model) * n) < 1e-6
