"""The color network with interleaved groups: channel k belongs to the color k % 3."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family import Family, Faulty, draw

LEVELS = 5


def interleaved(channels: int) -> Tensor:
    """Return the color of each channel."""
    return torch.arange(channels) % 3


def contiguous(channels: int) -> Tensor:
    """Return the color of each channel, by mistake in three blocks."""
    return torch.arange(channels) * 3 // channels


class ColorConv2d(nn.Conv2d):
    """A convolution whose center tap reads earlier colors (A), or also its own color (B)."""

    def __init__(self, mask_type: str, *args: int, groups_of=interleaved, **options: int) -> None:
        super().__init__(*args, **options)
        out, inputs, height, width = self.weight.shape
        of_out, of_input = groups_of(out)[:, None], interleaved(inputs)[None]
        mask = torch.zeros(out, inputs, height, width)
        mask[:, :, : height // 2] = 1
        mask[:, :, height // 2, : width // 2] = 1
        may_read = of_input < of_out if mask_type == "A" else of_input <= of_out
        mask[:, :, height // 2, width // 2] = may_read.float()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class ColorNet(nn.Module):
    def __init__(self, first: str = "A", groups_of=interleaved, channels: int = 9) -> None:
        super().__init__()
        self.first = ColorConv2d(first, 3, channels, 5, padding=2)
        self.layers = nn.ModuleList(
            ColorConv2d("B", channels, channels, 3, padding=1, groups_of=groups_of)
            for _ in range(2)
        )
        self.last = ColorConv2d("B", channels, 3 * LEVELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1) + x
        return self.last(x)


@torch.no_grad()
def own_loop(net: nn.Module, images: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Draw color by color; the network reads numbers in [-1, 1]."""
    n, _, height, width = images.shape
    dtype = next(net.parameters()).dtype
    x = torch.zeros(images.shape, dtype=torch.int64)
    for i in range(height):
        for j in range(width):
            for c in range(3):
                out = net(x.to(dtype) / (LEVELS - 1) * 2 - 1)
                logits = out.view(n, LEVELS, 3, height, width)[:, :, c, i, j]
                position = (i * width + j) * 3 + c
                x[:, c, i, j] = draw(logits, noise[:, position], temperature, images[:, c, i, j])
    return x


ADAPT = {"colors": 3, "levels": LEVELS, "inputs": "symmetric", "outputs": "level-major"}

FAMILIES = {"interleaved color groups": Family(lambda size: ColorNet(), ADAPT, own_loop)}

FAULTY = {
    "interleaved color groups, first mask B": Faulty(lambda size: ColorNet(first="B"), ADAPT),
    "interleaved color groups, contiguous in the middle": Faulty(
        lambda size: ColorNet(groups_of=contiguous), ADAPT
    ),
    "interleaved color groups, logits taken as color-major": Faulty(
        lambda size: ColorNet(), {**ADAPT, "outputs": "color-major"}
    ),
}
