"""The whole network for every value: the oracle that the other methods are held against."""

from collections.abc import Generator

import torch
from torch import Tensor

from ..drawing import Drawing
from ..request import Request


@torch.no_grad()
def ancestral(request: Request, drawing: Drawing, engine: str) -> Tensor:
    """Draw value by value, each from one pass of the whole network. `engine` plays no part."""
    images = request.known.expand(request.samples, -1, -1, -1).clone()
    drawing.draw_all(request, _positions(request, images))
    return images


def _positions(
    request: Request, images: Tensor
) -> Generator[tuple[tuple[int, int, int], Tensor], Tensor, None]:
    """Yield each unknown position with its logits, and write the values that are sent back."""
    low_res = request.low_res
    inputs = (
        [] if low_res is None else [low_res.repeat_interleave(request.samples // len(low_res), 0)]
    )
    expected = (request.samples, request.levels, *images.shape[1:])
    for row, col, colour in request.unknown.permute(1, 2, 0).nonzero().tolist():
        logits = request.model(images, *inputs)
        if logits.shape != expected:
            raise ValueError(
                f"{type(request.model).__name__} gives logits {list(logits.shape)}, "
                f"expected [N, L, C, H, W] = {list(expected)}"
            )
        drawn = yield (row, col, colour), logits[:, :, colour, row, col]
        value = images[:, colour, row, col]
        value.copy_(torch.where(request.known_mask[:, colour, row, col], value, drawn))
