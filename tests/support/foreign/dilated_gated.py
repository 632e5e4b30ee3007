"""The dilated gated network of a tutorial; its published weights for MNIST load into `Dilated`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family import Family, Faulty, draw


class MaskedConvolution(nn.Module):
    """A convolution with the same mask for all channels, which overwrites its weights with it."""

    def __init__(self, channels: int, out: int, mask: Tensor, dilation: int = 1) -> None:
        super().__init__()
        kernel = tuple(mask.shape)
        padding = tuple(dilation * (side - 1) // 2 for side in kernel)
        self.conv = nn.Conv2d(channels, out, kernel, padding=padding, dilation=dilation)
        self.register_buffer("mask", mask[None, None])

    def forward(self, x: Tensor) -> Tensor:
        self.conv.weight.data *= self.mask
        return self.conv(x)


def rows_above(include_own: bool) -> Tensor:
    mask = torch.zeros(3, 3)
    mask[: 1 + include_own] = 1
    return mask


def pixels_left(include_own: bool) -> Tensor:
    mask = torch.zeros(1, 3)
    mask[:, : 1 + include_own] = 1
    return mask


def gate(x: Tensor) -> Tensor:
    value, weight = x.chunk(2, dim=1)
    return torch.tanh(value) * torch.sigmoid(weight)


class GatedMaskedConv(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv_vert = MaskedConvolution(channels, 2 * channels, rows_above(True), dilation)
        self.conv_horiz = MaskedConvolution(channels, 2 * channels, pixels_left(True), dilation)
        self.conv_vert_to_horiz = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.conv_horiz_1x1 = nn.Conv2d(channels, channels, 1)

    def forward(self, v_stack: Tensor, h_stack: Tensor) -> tuple[Tensor, Tensor]:
        v_feat = self.conv_vert(v_stack)
        h_feat = self.conv_horiz(h_stack) + self.conv_vert_to_horiz(v_feat)
        return gate(v_feat), h_stack + self.conv_horiz_1x1(gate(h_feat))


class Dilated(nn.Module):
    def __init__(
        self,
        channels: int = 64,
        dilations: tuple[int, ...] = (1, 2, 1, 4, 1, 2, 1),
        levels: int = 256,
        colors: int = 1,
        vertical_reads_own_row: bool = False,
        horizontal_reads_itself: bool = False,
    ) -> None:
        super().__init__()
        self.levels_out, self.colors_out = levels, colors
        self.conv_vstack = MaskedConvolution(colors, channels, rows_above(vertical_reads_own_row))
        self.conv_hstack = MaskedConvolution(colors, channels, pixels_left(horizontal_reads_itself))
        self.conv_layers = nn.ModuleList(GatedMaskedConv(channels, d) for d in dilations)
        self.conv_out = nn.Conv2d(channels, levels * colors, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.conv_out.weight.dtype) / (self.levels_out - 1) * 2 - 1
        v_stack, h_stack = self.conv_vstack(x), self.conv_hstack(x)
        for layer in self.conv_layers:
            v_stack, h_stack = layer(v_stack, h_stack)
        out = self.conv_out(F.elu(h_stack))
        return out.reshape(out.shape[0], self.levels_out, self.colors_out, *out.shape[2:])


@torch.no_grad()
def own_loop(net: nn.Module, images: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Draw value by value; the network sees only the rows down to the current one."""
    img = images.clone()
    _, colors, height, width = img.shape
    for h in range(height):
        for w in range(width):
            for c in range(colors):
                logits = net(img[:, :, : h + 1])[:, :, c, h, w]
                position = (h * width + w) * colors + c
                img[:, c, h, w] = draw(logits, noise[:, position], temperature, images[:, c, h, w])
    return img


def small(**options: object) -> Dilated:
    return Dilated(channels=4, dilations=(1, 2, 1), levels=7, **options)


ADAPT = {"colors": 1, "levels": 7, "inputs": "integers", "outputs": "logits"}

FAMILIES = {
    "dilated gated": Family(lambda size: small(), ADAPT, own_loop),
    "dilated gated in color": Family(
        lambda size: small(colors=3), {**ADAPT, "colors": 3}, own_loop
    ),
}

FAULTY = {
    "dilated gated, vertical stack reads its own row": Faulty(
        lambda size: small(vertical_reads_own_row=True), ADAPT
    ),
    "dilated gated, horizontal stack reads itself": Faulty(
        lambda size: small(horizontal_reads_itself=True), ADAPT
    ),
}
