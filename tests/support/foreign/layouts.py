"""Networks with a causal convolution, and a body that lays features out in many ways."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .family import Family, Faulty, Size, draw
from .masked_stack import MaskedConv2d

LEVELS, CHANNELS = 4, 6


class ChannelsLast(nn.Module):
    """A block of a modern convolutional network: layer norm and linear layers, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(CHANNELS)
        self.expand, self.reduce = nn.Linear(CHANNELS, 12), nn.Linear(12, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.permute(0, 2, 3, 1))
        y = self.reduce(F.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class Tokens(nn.Module):
    """A feed-forward block of a transformer on ``[N, HW, C]``; `scrambles` forgets to transpose."""

    def __init__(self, scrambles: bool = False) -> None:
        super().__init__()
        self.scrambles = scrambles
        self.up, self.down = nn.Linear(CHANNELS, 8), nn.Linear(8, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.view(n, c, h * w).transpose(1, 2)
        tokens = tokens + self.down(F.relu(self.up(tokens)))
        if self.scrambles:
            return tokens.reshape(n, c, h, w)
        return tokens.transpose(1, 2).view(n, c, h, w)


class Einsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(torch.einsum("nchw,oc->nohw", x, self.weight))


class Depthwise(nn.Module):
    """A depthwise convolution and a grouped one; without a mask the first reads the future."""

    def __init__(self, is_masked: bool = True) -> None:
        super().__init__()
        sizes = CHANNELS, CHANNELS, 3
        if is_masked:
            self.depthwise = MaskedConv2d("B", *sizes, padding=1, groups=CHANNELS)
        else:
            self.depthwise = nn.Conv2d(*sizes, padding=1, groups=CHANNELS)
        self.grouped = MaskedConv2d("B", *sizes, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.grouped(F.relu6(self.depthwise(x))) + x


class ChannelMoves(nn.Module):
    """Splits, stacks, indices and flips of channels; each half returns to where it was."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.register_buffer("order", torch.tensor([3, 1, 0, 5, 4, 2]))

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, [2, 4], dim=1)
        b, c = b.chunk(2, dim=1)
        x = torch.stack([c, torch.tanh(a), b], dim=1).flatten(1, 2)
        x = torch.sigmoid(self.mix(x.flip(1))).flip(1)
        x = x[:, self.order] - x.index_select(1, self.order.flip(0))
        return torch.cat([x[:, 1::2], x[:, :3].narrow(1, 0, 3)], dim=1)


class FlippedColumns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.flip(3))


class Glu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = MaskedConv2d("B", CHANNELS, 2 * CHANNELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.glu(self.conv(x), dim=1)


class ConcatElu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.elu(torch.cat([x, -x], dim=1)))


class InPlace(nn.Module):
    """Activations and sums in place, after other code has read the values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = MaskedConv2d("B", CHANNELS, CHANNELS, 3, padding=1)
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.conv(x)) + x
        twice = y * 2
        y += x
        y.mul_(3).sub_(twice)
        return y.clamp_(-3, 3).add_(torch.abs(x))


class SoftmaxGate(nn.Module):
    """A softmax over the channels (dim 1) as a gate; over rows (dim 2) it reads the future."""

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.conv, self.softmax = nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Softmax(dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.softmax(self.conv(x))


class RmsNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(dim=1, keepdim=True) + 1e-6)
        return x * scale * self.weight[None, :, None, None]


class WholeLayerNorm(nn.Module):
    """A layer norm over channels, rows and columns, which reads the whole image."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm = nn.LayerNorm([CHANNELS, *size])

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class LaidOut(nn.Module):
    def __init__(self, body: nn.Module, first: str = "A") -> None:
        super().__init__()
        self.first = MaskedConv2d(first, 1, CHANNELS, 3, padding=1)
        self.body = body
        self.last = MaskedConv2d("B", CHANNELS, LEVELS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self.first(x)))


@torch.no_grad()
def own_loop(net: nn.Module, images: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Draw pixel by pixel; the network reads intensities in [0, 1]."""
    n, _, height, width = images.shape
    x = images.clamp(min=0).double() / (LEVELS - 1)
    for i in range(height):
        for j in range(width):
            logits = net(x)[:, :, i, j]
            value = draw(logits, noise[:, i * width + j], temperature, images[:, 0, i, j])
            x[:, 0, i, j] = value.double() / (LEVELS - 1)
    return (x * (LEVELS - 1)).round().long().view(n, 1, height, width)


ADAPT = {"colors": 1, "levels": LEVELS, "inputs": "unit", "outputs": "levels"}

BODIES: dict[str, Callable[[], nn.Module]] = {
    "channels last": ChannelsLast,
    "tokens": Tokens,
    "einsum": Einsum,
    "depthwise": Depthwise,
    "channel moves": ChannelMoves,
    "glu": Glu,
    "concatenated elu": ConcatElu,
    "in place": InPlace,
    "softmax gate": SoftmaxGate,
    "RMS norm": RmsNorm,
}

_SUMMED_CHANNELS = {"channels last": 2 * CHANNELS, "softmax gate": CHANNELS, "RMS norm": CHANNELS}

FAMILIES = {
    name: Family(
        lambda size, body=body: LaidOut(body()),
        ADAPT,
        own_loop,
        summed_channels=_SUMMED_CHANNELS.get(name, 0),
    )
    for name, body in BODIES.items()
}

FAULTY = {
    **{
        f"{name}, first mask B": Faulty(lambda size, body=body: LaidOut(body(), first="B"), ADAPT)
        for name, body in BODIES.items()
    },
    "depthwise without a mask": Faulty(lambda size: LaidOut(Depthwise(False)), ADAPT),
    "flipped columns": Faulty(lambda size: LaidOut(FlippedColumns()), ADAPT, is_known=False),
    "tokens that are not transposed": Faulty(
        lambda size: LaidOut(Tokens(scrambles=True)), ADAPT, is_known=False
    ),
    "softmax over rows": Faulty(lambda size: LaidOut(SoftmaxGate(2)), ADAPT, is_known=False),
    "layer norm of the whole image": Faulty(
        lambda size: LaidOut(WholeLayerNorm(size)), ADAPT, is_known=False
    ),
}
