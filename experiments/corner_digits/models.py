"""Models that are told the digit, but not the corner, and what they answer."""

import functools

import torch
from torch import Tensor

from pixelsr.models import ConditioningNetwork, GatedPixelCNN, PixelModel, PixelRecursiveSR
from pixelsr.sampling import sample

from ..support.independent_draws import draw_independently
from ..support.statistics import Regression
from .images import SCALE_FACTOR, told_of

TITLES = {
    "regression": "L2 regression",
    "independent": "independent pixels: A",
    "prior": "PixelCNN: B",
    "sum": "A + B",
}
"""The models, as a sentence names them."""
BATCH = 100
"""Images drawn at once; they do not depend on it."""


class Corner(PixelModel):
    """Is told what `told_of` leaves of an image."""

    def downsample(self, images: Tensor) -> Tensor:
        return told_of(images, self.levels)


class CornerNetwork(Corner, ConditioningNetwork):
    """A: pixels independent of each other."""


class CornerRegression(Corner, Regression):
    """One answer, the mean."""


class CornerSR(Corner, PixelRecursiveSR):
    """A + B."""


def make(name: str, prior: dict[str, int], conditioning: dict[str, int], seed: int) -> PixelModel:
    """A fresh model, by a key of `TITLES`, of networks with these options."""
    torch.manual_seed(seed)
    if name == "regression":
        return CornerRegression(**conditioning)
    if name == "independent":
        return CornerNetwork(**conditioning)
    if name == "prior":
        return GatedPixelCNN(**prior)
    return CornerSR(GatedPixelCNN(**prior), CornerNetwork(**conditioning))


@torch.inference_mode()
def answers(model: PixelModel, low_res: Tensor, seed: int) -> Tensor:
    """An image for each small one; of the prior, which is told none, as many.

    Args:
        low_res: uint8 ``[N, C, h, w]``.
    Returns:
        uint8 ``[N, C, H, W]``, below the model's levels.
    """
    low_res = low_res.to(model.device)
    if isinstance(model, CornerRegression):
        return torch.cat([model.answer(some) for some in low_res.split(BATCH)]).cpu()
    if isinstance(model, CornerNetwork):
        return draw_independently(model, low_res, seed=seed)
    draw_from = functools.partial(sample, seed=seed, max_batch=BATCH, progress=True)
    if isinstance(model, CornerSR):
        return draw_from(model, low_res=low_res).cpu()
    height, width = (SCALE_FACTOR * side for side in low_res.shape[2:])
    return draw_from(model, len(low_res), image_size=(height, width)).cpu()
