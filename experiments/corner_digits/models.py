"""Models whose input shows the digit but not the corner, and the images that they return."""

import functools

import torch
from torch import Tensor

from pixelsr.models import ConditioningNetwork, GatedPixelCNN, PixelModel, PixelRecursiveSR
from pixelsr.sampling import sample

from ..support.baselines import Regression, draw_independently
from .images import SCALE_FACTOR, ambiguous_input

TITLES = {
    "regression": "L2 regression",
    "independent": "independent pixels: A",
    "prior": "PixelCNN: B",
    "sum": "A + B",
}
"""The models, with their names in plots."""
BATCH = 100
"""The number of images in a batch; no image depends on it."""


class Corner(PixelModel):
    """A model whose input is the `ambiguous_input` of an image."""

    def downsample(self, images: Tensor) -> Tensor:
        return ambiguous_input(images, self.levels)


class CornerNetwork(Corner, ConditioningNetwork):
    """The model A, whose pixels are independent of each other."""


class CornerRegression(Corner, Regression):
    """The regression, whose only answer is the mean."""


class CornerSR(Corner, PixelRecursiveSR):
    """The sum A + B."""


def make(name: str, prior: dict[str, int], conditioning: dict[str, int], seed: int) -> PixelModel:
    """Return an untrained model by a key of `TITLES`, with networks of these options."""
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
    """Return an image for each input; the prior ignores the inputs and draws as many images.

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
