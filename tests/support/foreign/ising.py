"""The network of lattice physics: spins -1 and +1, and the probability of +1 at each site."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family import Family, Faulty, Size, draw


class LatticeConv2d(nn.Conv2d):
    """A square convolution of what comes before a site; with the site itself unless exclusive."""

    def __init__(self, channels: int, out: int, kernel: int, exclusive: bool) -> None:
        super().__init__(channels, out, kernel, padding=kernel // 2)
        half = kernel // 2
        mask = torch.ones(kernel, kernel)
        mask[half, half + (not exclusive) :] = 0
        mask[half + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.mask * self.weight, self.bias, padding=self.padding)


class Ising(nn.Module):
    """A stack of lattice convolutions with PReLU; the first spin is +1 with the probability 0.5.

    Args:
        planes: None, "multiplied" (each site has a factor of its own) or "concatenated" (a plane of
            ones marks the lattice, so that layers know its border).
    """

    def __init__(
        self,
        size: Size,
        exclusive: bool = True,
        shifted: int = 0,
        planes: str | None = None,
        channels: int = 4,
    ) -> None:
        super().__init__()
        self.planes, self.shifted = planes, shifted
        extra = int(planes == "concatenated")
        self.first = LatticeConv2d(1 + extra, channels, 5, exclusive)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.PReLU(channels, init=0.5), LatticeConv2d(channels, channels, 3, False))
            for _ in range(2)
        )
        self.last = nn.Sequential(nn.PReLU(channels, init=0.5), nn.Conv2d(channels, 1, 1))
        self.site_factor = nn.Parameter(torch.rand(1, 1, *size))
        x_hat_mask, x_hat_bias = torch.ones(size), torch.zeros(size)
        x_hat_mask[0, 0], x_hat_bias[0, 0] = 0, 0.5
        self.register_buffer("x_hat_mask", x_hat_mask)
        self.register_buffer("x_hat_bias", x_hat_bias)

    def forward(self, spins: Tensor) -> Tensor:
        x = spins
        if self.planes == "concatenated":
            x = torch.cat([x, torch.ones_like(x)], 1)
        x = self.first(x)
        if self.planes == "multiplied":
            x = x * self.site_factor
        for layer in self.layers:
            x = x + layer(x)
        if self.shifted:
            x = F.pad(x, (0, self.shifted))[..., self.shifted :]
        return torch.sigmoid(self.last(x)) * self.x_hat_mask + self.x_hat_bias


@torch.no_grad()
def own_loop(net: nn.Module, images: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Draw spin by spin, from the probability of +1."""
    _, _, height, width = images.shape
    spins = 2.0 * images.clamp(min=0).to(next(net.parameters()).dtype) - 1
    for i in range(height):
        for j in range(width):
            p = net(spins)[:, 0, i, j]
            logits = torch.stack([torch.log(1 - p), torch.log(p)], 1)
            up = draw(logits, noise[:, i * width + j], temperature, images[:, 0, i, j])
            spins[:, 0, i, j] = 2.0 * up - 1
    return (spins > 0).long()


ADAPT = {"colors": 1, "levels": 2, "inputs": "symmetric", "outputs": "probability"}

FAMILIES = {
    "Ising": Family(Ising, ADAPT, own_loop),
    "Ising with multiplied planes": Family(
        lambda size: Ising(size, planes="multiplied"), ADAPT, own_loop
    ),
    "Ising with concatenated planes": Family(
        lambda size: Ising(size, planes="concatenated"), ADAPT, own_loop, constant_taps=4 * 12
    ),
}

FAULTY = {
    "Ising, first layer not exclusive": Faulty(lambda size: Ising(size, exclusive=False), ADAPT),
    "Ising, features of the next column": Faulty(lambda size: Ising(size, shifted=1), ADAPT),
}
