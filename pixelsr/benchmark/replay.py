"""Drawn pictures, checked by one forward pass."""

import copy

import torch
from torch import Tensor

from pixelsr.sampling.noise import gumbel_noise
from pixelsr.sampling.request import make_request

from .batch import Batch

PICTURES = 4
"""Checked of a batch, at most: their noise takes 3 MB each at 32x32."""
FLIPS = 0.02
"""The share of values that rounding may flip; a wrong sampler flips most."""


@torch.no_grad()
def flips(batch: Batch, drawn: Tensor, weights: str = "model") -> float:
    """The share of values that the network, in float64, would have drawn otherwise.

    Each is ``argmax(logits + noise)`` with the logits of one pass over the finished picture, so an
    early flip does not drag later values along.

    Args:
        drawn: uint8 ``[B, C, H, W]``, with seed 0 at temperature 1.
        weights: as they were for `pixelsr.sample`.
    """
    drawn = drawn[:PICTURES]
    inputs = [drawn, *(low_res[:PICTURES] for low_res in batch.inputs[1:])]
    n = len(drawn) if batch.low_res is None else 1
    low_res = None if batch.low_res is None else inputs[1]
    request = make_request(batch.model, n, batch.image_size, low_res, None, None, 0, weights)
    logits = copy.deepcopy(request.model).double()(*inputs)  # [N, L, C, H, W]
    samples, levels, *places = logits.shape
    colours, height, width = places
    count = height * width * colours
    noise = gumbel_noise(0, 0, samples, 0, count, levels, drawn.device)
    noise = noise.view(samples, height, width, colours, levels).permute(0, 4, 3, 1, 2)
    return float(((logits + noise).argmax(1) != drawn).double().mean())


def check_replay(name: str, batch: Batch, drawn: Tensor, weights: str = "model") -> None:
    """That `drawn` is what the network draws, but for rounding.

    Raises:
        ValueError: more than a share of `FLIPS` is not.
    """
    share = flips(batch, drawn, weights)
    if share > FLIPS:
        raise ValueError(
            f"not measured: {share:.0%} of the values that {name} draws are not the network's, "
            f"expected at most {FLIPS:.0%}"
        )
