"""The masked stack: the convolution that zeroes its own weights, batch norm, ReLU and residuals."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family import Family, Faulty, draw

LEVELS = 5


def raster_mask(weight: Tensor, mask_type: str, future_tap: bool = False) -> Tensor:
    """Return the mask of a kernel: the rows above, and what is left of the center (A) or on it."""
    _, _, height, width = weight.shape
    mask = torch.ones_like(weight)
    mask[:, :, height // 2, width // 2 + (mask_type == "B") :] = 0
    mask[:, :, height // 2 + 1 :] = 0
    if future_tap:
        mask[:, :, height // 2 + 1, 0] = 1
    return mask


class MaskedConv2d(nn.Conv2d):
    """A convolution that multiplies `weight.data` by its mask in every forward."""

    def __init__(self, mask_type: str, *args: int, future_tap: bool = False, **options) -> None:
        super().__init__(*args, **options)
        self.register_buffer("mask", raster_mask(self.weight.data, mask_type, future_tap))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


class ProductMaskedConv2d(nn.Conv2d):
    """A convolution with the product of its weight and of a frozen parameter, its mask."""

    def __init__(self, mask_type: str, *args: int, **options) -> None:
        super().__init__(*args, **options)
        mask = raster_mask(self.weight.data, mask_type)
        self.mask = nn.Parameter(mask, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, self.stride, self.padding)


class Residual(nn.Module):
    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class MaskedStack(nn.Module):
    def __init__(
        self,
        first: str = "A",
        future_tap: bool = False,
        conv: type = MaskedConv2d,
        channels: int = 6,
    ) -> None:
        super().__init__()
        faults = {"future_tap": True} if future_tap else {}
        self.net = nn.Sequential(
            conv(first, 1, channels, 5, padding=2, bias=False),
            nn.BatchNorm2d(channels),
            Residual(conv("B", channels, channels, 3, padding=1, bias=False), channels),
            Residual(conv("B", channels, channels, 3, padding=1, bias=False, **faults), channels),
            nn.Conv2d(channels, 8, 1),
            nn.ReLU(True),
            nn.Conv2d(8, LEVELS, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@torch.no_grad()
def own_loop(net: nn.Module, images: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Draw pixel by pixel; the network reads intensities in [0, 1]."""
    _, _, height, width = images.shape
    sample = images.clamp(min=0).to(next(net.parameters()).dtype) / (LEVELS - 1)
    for i in range(height):
        for j in range(width):
            logits = net(sample)[:, :, i, j]
            value = draw(logits, noise[:, i * width + j], temperature, images[:, 0, i, j])
            sample[:, 0, i, j] = value / (LEVELS - 1)
    return (sample * (LEVELS - 1)).round().long()


ADAPT = {"colors": 1, "levels": LEVELS, "inputs": "unit", "outputs": "levels"}

FAMILIES = {
    "masked stack": Family(lambda size: MaskedStack(), ADAPT, own_loop),
    "masked stack with masks in parameters": Family(
        lambda size: MaskedStack(conv=ProductMaskedConv2d),
        {**ADAPT, "outputs": "level-major"},
        own_loop,
    ),
}

FAULTY = {
    "masked stack, mask B in the first layer": Faulty(lambda size: MaskedStack(first="B"), ADAPT),
    "masked stack, a tap in the row below": Faulty(
        lambda size: MaskedStack(future_tap=True), ADAPT
    ),
}
