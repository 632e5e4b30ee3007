"""Enlargements that need no model: what a model has to be better than."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelsr.area import area_average
from pixelsr.data.levels import from_levels, to_levels
from pixelsr.utils.progress import track

_CHUNK = 1024
"""Pictures at once: a matrix of distances then has 8 MiB."""


def bicubic(low_res: Tensor, magnification: int, levels: int) -> Tensor:
    """Pillow's bicubic interpolation of each small picture, colour by colour.

    Args:
        low_res: uint8 ``[M, C, h, w]``, below `levels`; interpolated in 8 bits.
    Returns:
        uint8 ``[M, C, h * magnification, w * magnification]``, below `levels`.
    """
    height, width = (magnification * side for side in low_res.shape[2:])
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
        for plane in from_levels(low_res, levels).flatten(0, 1).numpy()
    ]
    large = torch.from_numpy(np.stack(planes)).unflatten(0, low_res.shape[:2])
    return to_levels(large, levels)


def nearest_neighbours(
    low_res: Tensor,
    train: Tensor,
    magnification: int,
    levels: int,
    *,
    chunk: int = _CHUNK,
    progress: bool = False,
) -> Tensor:
    """Which training picture's area average is nearest to each small picture.

    Nearest in mean squared error; of equally near ones the first. The sums are integers that
    float64 holds exactly, so that the answer does not depend on `chunk`.

    Args:
        low_res: uint8 ``[M, C, h, w]``, below `levels`.
        train: uint8 ``[T, C, h * magnification, w * magnification]``, intensities of 8 bits.
        chunk: pictures of either at once; the memory in use does not grow with T.
        progress: show a progress bar on stderr, where that is a terminal.
    Returns:
        int64 ``[M]``, indices into `train`.
    """
    queries = low_res.flatten(1).double().split(chunk)
    best = [
        torch.full((len(some),), torch.inf, dtype=torch.float64, device="cpu") for some in queries
    ]
    index = [torch.zeros(len(some), dtype=torch.int64, device="cpu") for some in queries]
    parts: Sequence[Tensor] = train.split(chunk)
    for number, part in enumerate(track(parts, "nearest neighbours", progress)):
        smalls = area_average(to_levels(part, levels), magnification).flatten(1).double()
        squares = smalls.square().sum(1)
        for k, some in enumerate(queries):
            # |q - s|^2 without |q|^2, which is the same for every s
            distance, nearest = torch.min(squares - 2 * some @ smalls.T, 1)
            nearer = distance < best[k]
            best[k] = torch.where(nearer, distance, best[k])
            index[k] = torch.where(nearer, nearest + number * chunk, index[k])
    return torch.cat(index)
