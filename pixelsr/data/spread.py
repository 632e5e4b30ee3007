"""Some of many pictures."""

import torch
from torch import Tensor


def spread(images: Tensor, count: int | None) -> Tensor:
    """Return so many of the images, evenly spread: a folder is often sorted by what it shows.

    Args:
        images: ``[N, ...]``.
        count: None, or more than there are, for all.
    """
    count = min(count or len(images), len(images))
    return images[torch.arange(count) * len(images) // count]
