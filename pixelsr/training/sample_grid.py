"""Sample grids of a run: always drawn from the same inputs and the same noise."""

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pixelsr.data.crop import from_tensor
from pixelsr.data.quantize import from_levels
from pixelsr.models import ConditioningNetwork, PixelModel, PixelRecursiveSR
from pixelsr.sampling import sample

from .loss import is_multi_scale

DRAWS = 4
"""The number of samples of each image."""
SCALE, GAP = 4, 1


def draw_grid(model: PixelModel, images: Tensor, seed: int) -> Image.Image:
    """Draw a row for each image: input, samples, original; only samples for a prior.

    A `ConditioningNetwork`, whose values are independent, shows the likeliest level of each value.

    Args:
        model: the model, in eval mode.
        images: uint8 ``[N, C, H, W]``.
        seed: seed of the noise.
    """
    images = images.to(model.device)
    if isinstance(model, ConditioningNetwork):
        low_res = model.downsample(images)
        with torch.inference_mode():
            likeliest = model(low_res).argmax(1).to(torch.uint8)
        columns = [_enlarged(low_res, images), likeliest, images]
    elif isinstance(model, PixelRecursiveSR) or is_multi_scale(model):
        low_res = model.downsample(images)
        drawn = sample(model, n=DRAWS, low_res=low_res, seed=seed)
        columns = [_enlarged(low_res, images), *drawn.unflatten(0, (-1, DRAWS)).unbind(1), images]
    else:
        size = (images.shape[2], images.shape[3])
        drawn = sample(model, n=DRAWS * len(images), image_size=size, seed=seed)
        columns = list(drawn.unflatten(0, (-1, DRAWS)).unbind(1))
    return _tiled(from_levels(torch.stack(columns, 1).cpu(), model.levels))


def _enlarged(low_res: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(low_res, images.shape[2:], mode="nearest")


def _tiled(tiles: Tensor) -> Image.Image:
    """Arrange tiles ``[rows, columns, C, H, W]`` in a grid, each pixel enlarged to a square."""
    white = F.pad(tiles, (GAP, GAP, GAP, GAP), value=255)
    whole = white.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)  # [C, rows H, columns W]
    image = from_tensor(whole)
    return image.resize((SCALE * image.width, SCALE * image.height), Image.Resampling.NEAREST)
