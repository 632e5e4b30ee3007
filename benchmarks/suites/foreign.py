"""Networks as others write them, in plain PyTorch, each with the sampling loop of its author."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConvolution(nn.Module):
    """A convolution with one mask for all channels, which each forward applies to the weights."""

    def __init__(self, channels: int, out: int, mask: Tensor, dilation: int = 1) -> None:
        super().__init__()
        height, width = mask.shape
        padding = (dilation * (height // 2), dilation * (width // 2))
        self.conv = nn.Conv2d(channels, out, (height, width), padding=padding, dilation=dilation)
        self.register_buffer("mask", mask[None, None])

    def forward(self, x: Tensor) -> Tensor:
        self.conv.weight.data *= self.mask
        return self.conv(x)


def _vertical(rows: int) -> Tensor:
    """Return a 3x3 mask whose first rows are live."""
    return (torch.arange(3) < rows).float()[:, None].expand(3, 3).clone()


def _horizontal(columns: int) -> Tensor:
    """Return a 1x3 mask whose first columns are live."""
    return (torch.arange(3) < columns).float()[None]


def _gate(x: Tensor) -> Tensor:
    value, weight = x.chunk(2, dim=1)
    return torch.tanh(value) * torch.sigmoid(weight)


class GatedLayer(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv_vert = MaskedConvolution(channels, 2 * channels, _vertical(2), dilation)
        self.conv_horiz = MaskedConvolution(channels, 2 * channels, _horizontal(2), dilation)
        self.conv_vert_to_horiz = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.conv_horiz_1x1 = nn.Conv2d(channels, channels, 1)

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        above = self.conv_vert(vertical)
        own = self.conv_horiz(horizontal) + self.conv_vert_to_horiz(above)
        return _gate(above), horizontal + self.conv_horiz_1x1(_gate(own))


class Tutorial(nn.Module):
    """The dilated gated PixelCNN of a tutorial; its published MNIST weights fit the defaults.

    Shape:
        int64 ``[N, 1, H, W]`` to logits ``[N, L, 1, H, W]``.
    """

    def __init__(
        self,
        channels: int = 64,
        dilations: tuple[int, ...] = (1, 2, 1, 4, 1, 2, 1),
        levels: int = 256,
    ) -> None:
        super().__init__()
        self.conv_vstack = MaskedConvolution(1, channels, _vertical(1))
        self.conv_hstack = MaskedConvolution(1, channels, _horizontal(1))
        self.conv_layers = nn.ModuleList(GatedLayer(channels, each) for each in dilations)
        self.conv_out = nn.Conv2d(channels, levels, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = images.to(self.conv_out.weight.dtype) / 255 * 2 - 1
        vertical, horizontal = self.conv_vstack(x), self.conv_hstack(x)
        for layer in self.conv_layers:
            vertical, horizontal = layer(vertical, horizontal)
        return self.conv_out(F.elu(horizontal)).unsqueeze(2)

    def draw(self, images: Tensor, row: int, column: int) -> None:
        """Draw one value of each image; the network sees the rows down to this one."""
        logits = self(images[:, :, : row + 1])[:, :, 0, row, column]
        images[:, 0, row, column] = torch.multinomial(logits.softmax(1), 1)[:, 0]


class LatticeConvolution(nn.Conv2d):
    """A 3x3 convolution of what comes before a site, and of the site itself unless exclusive."""

    def __init__(self, channels: int, out: int, exclusive: bool = False) -> None:
        super().__init__(channels, out, 3, padding=1)
        mask = torch.arange(9) < (4 if exclusive else 5)
        self.register_buffer("mask", mask.view(3, 3).float())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.mask * self.weight, self.bias, padding=self.padding)


class Ising(nn.Module):
    """The autoregressive network of lattice physics; the first spin is +1 with probability 0.5.

    Shape:
        spins -1 and +1, ``[N, 1, H, W]``, to the probability of +1, ``[N, 1, H, W]``.
    """

    def __init__(self, size: tuple[int, int] = (16, 16), width: int = 64, depth: int = 6) -> None:
        super().__init__()
        layers: list[nn.Module] = [LatticeConvolution(1, width, exclusive=True)]
        for out in [*[width] * (depth - 2), 1]:
            layers += [nn.PReLU(width, init=0.5), LatticeConvolution(width, out)]
        self.net = nn.Sequential(*layers, nn.Sigmoid())
        self.register_buffer("factor", torch.ones(size))
        self.register_buffer("offset", torch.zeros(size))
        self.factor[0, 0], self.offset[0, 0] = 0, 0.5

    def forward(self, spins: Tensor) -> Tensor:
        return self.net(spins) * self.factor + self.offset

    def draw(self, spins: Tensor, row: int, column: int) -> None:
        """Draw one spin of each lattice."""
        p = self(spins)[:, :, row, column]
        spins[:, :, row, column] = 2 * torch.bernoulli(p) - 1


class Foreign(NamedTuple):
    """A network and how it is called.

    Attributes:
        make: a function that returns the network with random weights.
        size: height and width of its images.
        adapt: the keyword arguments of `pixelsr.adapt`.
        inputs: a function from uint8 images to what the network takes.
        logits: a function from what the network returns to logits ``[N, L, 1, H, W]``.
        published: the path of published weights below the folder that PIXELSR_TEST_DATA names.
    """

    make: Callable[[], nn.Module]
    size: tuple[int, int]
    adapt: dict[str, Any]
    inputs: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    published: str | None = None

    def network(self) -> nn.Module:
        """Return the network in eval mode, with published weights if they are there."""
        torch.manual_seed(0)
        net = self.make().eval()
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        if file := self.weights():
            state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
            net.load_state_dict(state)
        return net

    def weights(self) -> Path | None:
        """Return the file of published weights, or None if there is none."""
        if self.published is None or "PIXELSR_TEST_DATA" not in os.environ:
            return None
        file = Path(os.environ["PIXELSR_TEST_DATA"]) / self.published
        return file if file.is_file() else None


FOREIGN = {
    "tutorial": Foreign(
        Tutorial,
        (28, 28),
        {"colors": 1, "levels": 256, "inputs": "integers", "outputs": "logits"},
        lambda images: images.long(),
        lambda logits: logits,
        "uva_pixelcnn/PixelCNN.ckpt",
    ),
    "Ising": Foreign(
        Ising,
        (16, 16),
        {"colors": 1, "levels": 2, "inputs": "symmetric", "outputs": "probability"},
        lambda images: 2 * images.float() - 1,
        lambda p: torch.stack([torch.log1p(-p), torch.log(p)], 1),
    ),
}
