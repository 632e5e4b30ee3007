"""Random networks as others compose them, causal or not, drawn by hypothesis.

Features are strictly of the past after a first convolution; colors of the same pixel are joined to
the logits. A few draws make a mistake: a tap, a shift or a color of the future.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.foreign.family import randomize_all

Draw = Callable[[st.SearchStrategy[Any]], Any]

RARELY = st.sampled_from([False] * 11 + [True])

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu with tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": F.elu,
    "celu": lambda x: F.celu(x, 0.5),
    "selu": F.selu,
    "silu": F.silu,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky relu": F.leaky_relu,
    "softplus": F.softplus,
    "hardtanh": F.hardtanh,
    "clamp": lambda x: x.clamp(-1, 2),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": lambda x: torch.exp(torch.tanh(x)),
    "log": lambda x: torch.log(1 + x.abs()),
    "sqrt": lambda x: torch.sqrt(x * x + 1),
    "square": lambda x: x.pow(2) - x**2 / 2,
    "maximum": lambda x: torch.maximum(x, -0.3 * x),
    "minimum": lambda x: torch.minimum(x, x.flip(1)),
    "where": lambda x: torch.where(x > 0, x, x / 3),
    "one minus": lambda x: 1 - x,
    "one over": lambda x: 1 / (2 + torch.tanh(x)),
    "softmax of channels": lambda x: torch.softmax(x, 1),
    "mean of channels": lambda x: x - x.mean(1, keepdim=True),
    "RMS of channels": lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5),
    "flip of channels": lambda x: x.flip(1),
    "slice of channels": lambda x: torch.cat([x[:, 1:], x[:, :1]], 1),
    "stack of halves": lambda x: torch.stack(x.chunk(2, 1), 2).flatten(1, 2),
    "gate of halves": lambda x: torch.cat([x, x.chunk(2, 1)[0].sigmoid() * x.chunk(2, 1)[1]], 1)[
        :, x.shape[1] // 2 :
    ],
    "in place": lambda x: (x * 2).relu_().add_(x),
    "two views of rows and columns": lambda x: torch.tanh(x.flatten(2)).view_as(x),
    "swapped rows and columns": lambda x: torch.tanh(x.transpose(2, 3)).transpose(2, 3),
}
"""Functions within a pixel that keep the number of channels, which is even."""


class Function(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.name](x)


class PaddedConv2d(nn.Module):
    """A convolution with its own padding on each side and dilation; a crop restores the size.

    Args:
        pads: rows above and below, and columns to the left and right, that are padded.
        crop: rows and columns cropped at the start.
        reads: "before" (taps on earlier pixels are live), "until" (also those on the pixel itself)
            or "all" (a mistake, unless the pads keep the taps in the past).
        swapped: True if the convolution runs on the transposed map.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: tuple[int, int],
        dilation: tuple[int, int],
        pads: tuple[int, int],
        crop: tuple[int, int],
        reads: str,
        groups: int = 1,
        swapped: bool = False,
    ) -> None:
        super().__init__()
        self.pads, self.crop, self.swapped = pads, crop, swapped
        options = {"dilation": dilation, "groups": groups}
        self.conv = nn.Conv2d(*channels, kernel, **options)
        rows, cols = (
            torch.arange(size) * step + start - pad
            for size, step, start, pad in zip(kernel, dilation, crop, pads, strict=True)
        )  # of the pixel that a tap reads, relative to the output
        rows, cols = rows[:, None], cols[None, :]
        if swapped:
            rows, cols = cols, rows
        live = (rows < 0) | ((rows == 0) & (cols < (1 if reads == "until" else 0)))
        self.register_buffer("mask", (live | (reads == "all")).float())

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(2, 3) if self.swapped else x
        height, width = x.shape[2:]
        sizes = zip(self.conv.kernel_size, self.conv.dilation, self.pads, self.crop, strict=True)
        after = [max(0, (size - 1) * step + start - pad) for size, step, pad, start in sizes]
        y = F.pad(x, (self.pads[1], after[1], self.pads[0], after[0]))
        y = self.conv._conv_forward(y, self.conv.weight * self.mask, self.conv.bias)
        y = y[:, :, self.crop[0] :, self.crop[1] :][:, :, :height, :width]
        return y.transpose(2, 3) if self.swapped else y


class Shift(nn.Module):
    """A shift of a map down and to the right by a number of pixels, or back if negative."""

    def __init__(self, rows: int, cols: int) -> None:
        super().__init__()
        self.rows, self.cols = rows, cols

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        before, after = (
            [max(0, self.rows), max(0, self.cols)],
            [max(0, -self.rows), max(0, -self.cols)],
        )
        x = F.pad(x, (before[1], after[1], before[0], after[0]))
        return x[:, :, after[0] : after[0] + height, after[1] : after[1] + width]


class ThereAndBack(nn.Module):
    """A shift into the past, and back: the lost border is filled with zeros."""

    def __init__(self, rows: int, cols: int) -> None:
        super().__init__()
        self.there, self.back = Shift(rows, cols), Shift(-rows, -cols)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(torch.tanh(self.there(x)))


class ChannelsLast(nn.Module):
    def __init__(self, channels: int, normalizes: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels) if normalizes else nn.Identity()
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class Tokens(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return (tokens + self.linear(tokens)).transpose(1, 2).reshape(x.shape)


class Einsum(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,oc->nohw", x, self.weight)


class Glu(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.conv(x), 1)


class ConcatElu(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.elu(torch.cat([x, -x], 1)))


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that always uses its running statistics, since it stays in eval mode."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        return super().train(False)


class WithPlane(nn.Module):
    """A convolution of the map and of a plane of ones or of row numbers."""

    def __init__(self, channels: int, counts_rows: bool) -> None:
        super().__init__()
        self.conv, self.counts_rows = nn.Conv2d(channels + 1, channels, 1), counts_rows

    def forward(self, x: Tensor) -> Tensor:
        plane = x.new_ones(x.shape[0], 1, *x.shape[2:])
        if self.counts_rows:
            plane = plane * torch.linspace(-1, 1, x.shape[2], dtype=x.dtype)[:, None]
        return self.conv(torch.cat([plane, x], 1))


class WithSkip(nn.Module):
    """A convolution of a map and of the first features, joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([x, skip], 1))


class Add(nn.Module):
    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return x + skip


def _conv(draw: Draw, channels: tuple[int, int], reads: str, groups: int = 1) -> nn.Module:
    sides = st.tuples(st.integers(1, 3), st.integers(1, 2))
    rows, cols = draw(sides), draw(sides)  # kernel size and dilation
    reach = [(size - 1) * step for size, step in (rows, cols)]
    pads = tuple(draw(st.integers((most + 1) // 2, most + 1)) for most in reach)
    crop = draw(st.sampled_from([(0, 0), (0, 0), (1, 0), (0, 1), (2, 1)]))
    reads = "all" if draw(RARELY) else reads
    kernel, dilation = zip(rows, cols, strict=True)
    return PaddedConv2d(channels, kernel, dilation, pads, crop, reads, groups, draw(RARELY))


def _shift(draw: Draw) -> nn.Module:
    back = draw(RARELY)
    rows, cols = draw(st.sampled_from([(1, 0), (0, 1), (2, 1), (1, -1), (7, 0)]))
    return Shift(-rows, -cols) if back else Shift(rows, cols)


STEPS: dict[str, Callable[[Draw, int], nn.Module]] = {
    "conv": lambda draw, n: _conv(draw, (n, n), "until"),
    "strict conv": lambda draw, n: _conv(draw, (n, n), "before"),
    "depthwise conv": lambda draw, n: _conv(draw, (n, n), "until", n),
    "grouped conv": lambda draw, n: _conv(draw, (n, n), "until", 2),
    "shift": lambda draw, n: _shift(draw),
    "there and back": lambda draw, n: ThereAndBack(
        draw(st.integers(0, 2)), draw(st.integers(0, 2))
    ),
    "channels last": lambda draw, n: ChannelsLast(n, draw(st.booleans())),
    "tokens": lambda draw, n: Tokens(n),
    "einsum": lambda draw, n: Einsum(n),
    "glu": lambda draw, n: Glu(n),
    "concatenated elu": lambda draw, n: ConcatElu(n),
    "batch norm": lambda draw, n: FrozenBatchNorm2d(n, affine=draw(st.booleans())),
    "prelu": lambda draw, n: nn.PReLU(draw(st.sampled_from([1, n]))),
    "constant plane": lambda draw, n: WithPlane(n, draw(st.booleans())),
    "add": lambda draw, n: Add(),
    "skip": lambda draw, n: WithSkip(n),
    "function": lambda draw, n: Function(draw(st.sampled_from(sorted(FUNCTIONS)))),
}
"""The makers of a step, a module that keeps the number of channels and the size."""


class RandomForeign(nn.Module):
    """A chain of steps after a convolution of the past, and what earlier colors add to the logits.

    Args:
        color_of: the color of each channel of the logits.
    """

    def __init__(
        self, first: nn.Module, steps: list[nn.Module], channels: int, colors: int, color_of: Tensor
    ) -> None:
        super().__init__()
        self.first, self.steps = first, nn.ModuleList(steps)
        self.last = nn.Conv2d(channels, len(color_of), 1)
        self.own = nn.Conv2d(colors, len(color_of), 1, bias=False)
        earlier = torch.arange(colors)[None] < color_of[:, None]
        self.register_buffer("earlier", earlier[:, :, None, None].float())

    def forward(self, x: Tensor) -> Tensor:
        first = h = self.first(x)
        for step in self.steps:
            h = step(h, first) if isinstance(step, Add | WithSkip) else step(h)
        self.own.weight.data *= self.earlier
        return self.last(h) + self.own(x)


def color_of_channels(outputs: str, colors: int, levels: int) -> Tensor:
    channels = torch.arange(colors * levels)
    return channels // levels if outputs == "color-major" else channels % colors


@st.composite
def foreign_networks(
    draw: Draw, kinds: tuple[str, ...] = tuple(STEPS)
) -> tuple[RandomForeign, dict[str, Any]]:
    """Return a random network in float64, and the keyword arguments of `pixelsr.adapt`."""
    colors, levels = draw(st.integers(1, 3)), draw(st.integers(2, 5))
    channels = draw(st.sampled_from([2, 4, 6]))
    first = _conv(draw, (colors, channels), "before")
    names = draw(st.lists(st.sampled_from(kinds), max_size=5))
    steps = [STEPS[name](draw, channels) for name in names]
    inputs = draw(st.sampled_from(["unit", "symmetric", "values"]))
    outputs = draw(st.sampled_from(["level-major", "color-major"]))
    layout = "level-major" if draw(RARELY) else outputs
    color_of = color_of_channels(layout, colors, levels)
    network = RandomForeign(first, steps, channels, colors, color_of)
    adapt = {"colors": colors, "levels": levels, "inputs": inputs, "outputs": outputs}
    return randomize_all(network, draw(st.integers(0, 2**16))).double().eval(), adapt


def with_function(name: str) -> tuple[RandomForeign, dict[str, Any]]:
    """Return a causal network with one function, and the keyword arguments of `pixelsr.adapt`."""
    first = PaddedConv2d((3, 4), (3, 3), (1, 1), (1, 1), (0, 0), "before")
    color_of = color_of_channels("level-major", 3, 4)
    network = RandomForeign(first, [Function(name)], 4, 3, color_of)
    adapt = {"colors": 3, "levels": 4, "inputs": "symmetric", "outputs": "level-major"}
    return randomize_all(network, 0).double().eval(), adapt
