"""Tests of networks that convert values of the low-resolution image to Python values."""

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import ops
from pixelsr.nn import MaskedConv2d
from tests.support.helpers import randomize

pytestmark = pytest.mark.usefixtures("one_thread")

ENGINES = ["reference"] if ops.WHY_NOT_COMPILED else ["reference", "cpu"]


def branch(h: Tensor, low_res: Tensor) -> Tensor:
    return torch.tanh(h) if low_res.mean() > 1.5 else h


def multiply(h: Tensor, low_res: Tensor) -> Tensor:
    return h * low_res.mean().item()


def add(h: Tensor, low_res: Tensor) -> Tensor:
    return h + torch.tensor(low_res.flatten().tolist()[:4], dtype=h.dtype)[:, None, None]


def add_planes(h: Tensor, low_res: Tensor) -> Tensor:
    return h + torch.arange(h.shape[3], dtype=h.dtype) * low_res.sum().item()


USES = [branch, multiply, add, add_planes]


class ByValues(nn.Module):
    """A network that treats each image by values of its own low-resolution image."""

    colors, levels, scale_factor = 1, 4, 2

    def __init__(self, use) -> None:
        super().__init__()
        self.first = MaskedConv2d(1, 4, 3, mask_type="A", colors=1)
        self.use = use

    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        dtype = self.first.weight.dtype
        h = self.first(images.to(dtype))
        pairs = zip(h.split(1), low_res.to(dtype).split(1), strict=True)
        return torch.cat([self.use(own, small) for own, small in pairs]).unsqueeze(2)


LOW_RES = torch.tensor([[0, 1, 1, 0], [3, 2, 3, 2]], dtype=torch.uint8).view(2, 1, 2, 2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("use", USES)
def test_inputs_with_other_values_are_refused_in_one_batch(use, engine):
    model = randomize(ByValues(use)).double().eval()
    with pytest.raises(pixelsr.PlanError, match="sample them one at a time"):
        pixelsr.sample(model, low_res=LOW_RES, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("use", USES)
def test_inputs_with_other_values_are_drawn_one_at_a_time(use, engine):
    model = randomize(ByValues(use)).double().eval()
    drawn = pixelsr.sample(model, 2, low_res=LOW_RES, engine=engine, max_batch=2)
    assert torch.equal(drawn, pixelsr.sample(model, 2, low_res=LOW_RES, method="ancestral"))


@pytest.mark.parametrize("use", USES)
def test_edits_of_inputs_with_other_values_are_refused(use):
    model = randomize(ByValues(use)).double().eval()
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(pixelsr.PlanError, match="sample them one at a time"):
        pixelsr.sampling.incremental_logits(model, images, low_res=LOW_RES)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("use", USES)
def test_inputs_with_equal_values_are_drawn_in_one_batch(use, engine):
    model, low_res = randomize(ByValues(use)).double().eval(), LOW_RES[[1, 1]]
    drawn = pixelsr.sample(model, 2, low_res=low_res, engine=engine)
    assert torch.equal(drawn, pixelsr.sample(model, 2, low_res=low_res, method="ancestral"))
