"""The stack with weight norm, of the old and of the new kind, over masked weights."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from .family import Family, Faulty, draw
from .masked_stack import raster_mask

LEVELS = 4


class MaskedConv2d(nn.Conv2d):
    """A convolution that multiplies by its mask what weight norm makes of its parameters."""

    def __init__(self, mask_type: str, *args: int, **options: int) -> None:
        super().__init__(*args, **options)
        self.register_buffer("mask", raster_mask(self.weight.data, mask_type))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


def normalized(conv: nn.Module, kind: str) -> nn.Module:
    """Return a convolution with weight norm: "old" is a hook, "new" is a parametrization."""
    if kind == "new":
        return parametrizations.weight_norm(conv)
    with warnings.catch_warnings():  # the old kind is deprecated, but many networks have it
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(conv)


class WeightNormStack(nn.Module):
    def __init__(self, kind: str, first: str = "A", channels: int = 5) -> None:
        super().__init__()
        self.first = normalized(MaskedConv2d(first, 1, channels, 3, padding=1), kind)
        self.hidden = normalized(MaskedConv2d("B", channels, channels, 3, padding=1), kind)
        self.last = normalized(nn.Conv2d(channels, LEVELS, 1), kind)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.first(x))
        return self.last(F.gelu(self.hidden(x)) + x)


@torch.no_grad()
def own_loop(net: nn.Module, images: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Draw pixel by pixel; the network reads numbers in [-1, 1]."""
    _, _, height, width = images.shape
    x = torch.full(images.shape, -1.0, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            logits = net(x)[:, :, i, j]
            value = draw(logits, noise[:, i * width + j], temperature, images[:, 0, i, j])
            x[:, 0, i, j] = 2 * value / (LEVELS - 1) - 1
    return ((x + 1) / 2 * (LEVELS - 1)).round().long()


ADAPT = {"colors": 1, "levels": LEVELS, "inputs": "symmetric", "outputs": "levels"}

FAMILIES = {
    f"{kind} weight norm": Family(lambda size, kind=kind: WeightNormStack(kind), ADAPT, own_loop)
    for kind in ("old", "new")
}

FAULTY = {
    f"{kind} weight norm, first mask B": Faulty(
        lambda size, kind=kind: WeightNormStack(kind, first="B"), ADAPT
    )
    for kind in ("old", "new")
}
