"""Tests of known values that differ between colors, and of fully known leading rows."""

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from experiments.ablation.models import GatedPixelCNNGrayMasks
from pixelsr import functional
from pixelsr.nn import MaskedConv2d
from tests.support.helpers import randomize
from tests.support.sampling import random_images


def assert_methods_agree(model: nn.Module, n: int, **what: object) -> None:
    """Check every engine that takes float64, alone and in batches."""
    expected = pixelsr.sample(model, n, method="ancestral", **what)
    for engine, max_batch in (("cpu", None), ("reference", None), ("cpu", 1)):
        drawn = pixelsr.sample(model, n, engine=engine, max_batch=max_batch, **what)
        assert torch.equal(drawn, expected), engine


@pytest.mark.parametrize("unknown", [[(0, 1, 1), (2, 5, 5)], [(2, 0, 0), (1, 7, 7), (0, 3, 2)]])
def test_colors_whose_logits_are_one_cell(unknown):
    sizes = {"first_kernel_size": 3, "kernel_size": 3, "head_channels": 8}
    model = randomize(GatedPixelCNNGrayMasks(channels=8, layers=1, **sizes)).double().eval()
    mask = torch.ones(1, 3, 8, 8, dtype=torch.bool)
    for color, row, col in unknown:
        mask[0, color, row, col] = False
    known = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    what = {"image_size": (8, 8), "known": known, "known_mask": mask}
    assert_methods_agree(model, 2, **what)


def test_fewer_channels_than_colors():
    sizes = {"first_kernel_size": 3, "kernel_size": 3, "head_channels": 2, "levels": 8}
    model = randomize(pixelsr.GatedPixelCNN(channels=2, layers=1, **sizes)).double().eval()
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(4, 3, 5, 6, generator=generator) < 0.8
    known = torch.randint(8, mask.shape, dtype=torch.uint8, generator=generator)
    what = {"image_size": (5, 6), "known": known, "known_mask": mask}
    assert_methods_agree(model, 4, **what)


class Offset(nn.Module):
    """A network that adds a parameter of one value per channel to a map that masked taps read."""

    colors, levels = 1, 16

    def __init__(self, first: int, out: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.first = MaskedConv2d(1, 8, first, mask_type="A", colors=1)
        self.out = MaskedConv2d(8, 16, out, mask_type="B", colors=1)
        self.offset = nn.Parameter(torch.zeros(shape))

    def forward(self, images: Tensor) -> Tensor:
        x = functional.normalize_images(images, 1, 16, self.out.weight.dtype)
        return functional.to_logits(self.out(self.first(x) + self.offset), 1, 16)


@pytest.mark.parametrize("shape", [(8, 1, 1), (), (1, 8, 1, 1), (8, 6, 1), (8, 1, 4)], ids=str)
@pytest.mark.parametrize("kernels", [(1, 3), (3, 3), (5, 3)], ids=str)
def test_known_leading_rows_of_a_network_with_a_broadcast_parameter(kernels, shape):
    model = randomize(Offset(*kernels, shape)).double().eval()
    known = random_images(model, 1, (6, 4))
    for leading in range(1, 6):
        mask = torch.zeros(1, 1, 6, 4, dtype=torch.bool)
        mask[:, :, :leading] = True
        what = {"image_size": (6, 4), "known": known, "known_mask": mask, "seed": 1}
        assert_methods_agree(model, 3, **what)
