"""Tests of networks in which some levels have logits that do not depend on the image."""

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import ops
from pixelsr.nn import MaskedConv2d
from tests.support.helpers import randomize

pytestmark = pytest.mark.usefixtures("one_thread")

ENGINES = ["reference"] if ops.WHY_NOT_COMPILED else ["reference", "cpu"]


class Forbids(nn.Module):
    """A network that forbids some of its channels, which are color-major."""

    colors, levels = 2, 4

    def __init__(self, forbidden: list[int]) -> None:
        super().__init__()
        self.layer = MaskedConv2d(2, 8, 3, mask_type="A", colors=2)
        self.forbidden = forbidden

    def forward(self, images: Tensor) -> Tensor:
        logits = self.layer(images.to(self.layer.weight.dtype))
        forbidden = torch.zeros(8, dtype=torch.bool)
        forbidden[self.forbidden] = True
        logits = logits.masked_fill(forbidden[:, None, None], -torch.inf)
        return logits.unflatten(1, (2, 4)).transpose(1, 2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("forbidden", [[1], [2, 5], [0, 1, 3], [4, 6, 7], [3, 7]])
def test_forbidden_levels_are_never_drawn(forbidden, engine):
    model = randomize(Forbids(forbidden)).double().eval()
    drawn = pixelsr.sample(model, 3, image_size=(4, 5), engine=engine)
    for channel in forbidden:
        assert not (drawn[:, channel // 4] == channel % 4).any()
    expected = pixelsr.sample(model, 3, image_size=(4, 5), method="ancestral")
    assert torch.equal(drawn, expected)
