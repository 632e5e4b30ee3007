"""The gated prior over codes: kernels that hold the past alone, from padding, crops and shifts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family import Family, Faulty, draw

LEVELS = 6


def gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


def down_shift(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 1, 0))[:, :, : x.size(2)]


def right_shift(x: Tensor) -> Tensor:
    return F.pad(x, (1, 0))[:, :, :, : x.size(3)]


class CroppedGatedBlock(nn.Module):
    """A gated block of a vertical kernel (k//2 + 1, k) and a horizontal one (1, k//2 + 1).

    Both kernels end at the current row and column. In the first block, mask A zeroes their last row
    and their last column.

    Args:
        mask_type: "A" or "B".
        pads: "crop" (padding on both sides, and the end is cropped), or "zero pad" (padding before
            the start, and an unpadded convolution).
        crop: "end", or by mistake "start".
    """

    def __init__(
        self, mask_type: str, channels: int, out: int, kernel: int, pads: str, crop: str = "end"
    ) -> None:
        super().__init__()
        self.mask_type, self.crop, half = mask_type, crop, kernel // 2
        self.has_residual = channels == out
        sizes = (half + 1, kernel), (1, half + 1)
        self.pad_vertical = self.pad_horizontal = nn.Identity()
        if pads == "crop":
            paddings = [(half, half), (0, half)]
        else:
            paddings = [(0, 0), (0, 0)]
            self.pad_vertical = nn.ZeroPad2d((half, half, half, 0))
            self.pad_horizontal = nn.ZeroPad2d((half, 0, 0, 0))
        self.vertical = nn.Conv2d(channels, 2 * out, sizes[0], padding=paddings[0])
        self.horizontal = nn.Conv2d(channels, 2 * out, sizes[1], padding=paddings[1])
        self.vertical_to_horizontal = nn.Conv2d(2 * out, 2 * out, 1)
        self.residual = nn.Conv2d(out, out, 1)

    def make_causal(self) -> None:
        self.vertical.weight.data[:, :, -1].zero_()
        self.horizontal.weight.data[:, :, :, -1].zero_()

    def cropped(self, x: Tensor, height: int, width: int) -> Tensor:
        if self.crop == "start":
            return x[:, :, -height:, -width:]
        return x[:, :, :height, :width]

    def link(self, vertical: Tensor) -> Tensor:
        return self.vertical_to_horizontal(vertical)

    def forward(self, x_v: Tensor, x_h: Tensor) -> tuple[Tensor, Tensor]:
        if self.mask_type == "A":
            self.make_causal()
        size = x_h.shape[2:]
        h_vert = self.cropped(self.vertical(self.pad_vertical(x_v)), *size)
        h_horiz = self.cropped(self.horizontal(self.pad_horizontal(x_h)), *size)
        out = self.residual(gate(self.link(h_vert) + h_horiz))
        return gate(h_vert), out + x_h if self.has_residual else out


class ShiftedGatedBlock(CroppedGatedBlock):
    """A gated block whose vertical stack knows its own row, and moves down to join the other.

    The horizontal stack of the first block reads its own pixel, and moves to the right instead.
    """

    def __init__(self, mask_type: str, *args: int, shifts: bool = True) -> None:
        super().__init__(mask_type, *args, pads="zero pad")
        self.shifts = shifts

    def make_causal(self) -> None:
        """Leave the weights as they are: the shifts do this work."""

    def link(self, vertical: Tensor) -> Tensor:
        return self.vertical_to_horizontal(down_shift(vertical) if self.shifts else vertical)

    def forward(self, x_v: Tensor, x_h: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x_v, right_shift(x_h) if self.mask_type == "A" else x_h)


class GatedPrior(nn.Module):
    """A stack of gated blocks; the options are those of the blocks."""

    def __init__(
        self,
        block: type = CroppedGatedBlock,
        first: str = "A",
        channels: int = 4,
        **options: object,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList([block(first, 1, channels, 5, **options)])
        self.layers.extend(block("B", channels, channels, 3, **options) for _ in range(2))
        self.output_conv = nn.Sequential(
            nn.Conv2d(channels, 8, 1), nn.ReLU(True), nn.Conv2d(8, LEVELS, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x_v = x_h = x
        for layer in self.layers:
            x_v, x_h = layer(x_v, x_h)
        return self.output_conv(x_h)


@torch.no_grad()
def own_loop(net: nn.Module, images: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Draw code by code; the network reads the codes as numbers."""
    n, _, height, width = images.shape
    x = torch.zeros(n, height, width, dtype=torch.int64)
    for i in range(height):
        for j in range(width):
            logits = net(x[:, None].to(next(net.parameters()).dtype))
            given = images[:, 0, i, j]
            sampled = draw(logits[:, :, i, j], noise[:, i * width + j], temperature, given)
            x.data[:, i, j].copy_(sampled)
    return x[:, None]


ADAPT = {"colors": 1, "levels": LEVELS, "inputs": "values", "outputs": "levels"}

FAMILIES = {
    "gated with crops": Family(lambda size: GatedPrior(pads="crop"), ADAPT, own_loop),
    "gated with zero pads": Family(lambda size: GatedPrior(pads="zero pad"), ADAPT, own_loop),
    "gated with shifts": Family(lambda size: GatedPrior(ShiftedGatedBlock), ADAPT, own_loop),
}

FAULTY = {
    "gated with crops, first mask B": Faulty(
        lambda size: GatedPrior(first="B", pads="crop"), ADAPT
    ),
    "gated with crops at the start": Faulty(
        lambda size: GatedPrior(pads="crop", crop="start"), ADAPT
    ),
    "gated with zero pads, first mask B": Faulty(
        lambda size: GatedPrior(first="B", pads="zero pad"), ADAPT
    ),
    "gated with shifts, vertical stack not shifted": Faulty(
        lambda size: GatedPrior(ShiftedGatedBlock, shifts=False), ADAPT
    ),
    "gated with shifts, horizontal stack not shifted": Faulty(
        lambda size: GatedPrior(ShiftedGatedBlock, first="B"), ADAPT
    ),
}
