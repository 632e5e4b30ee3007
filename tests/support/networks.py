"""Small networks of every class, and compositions of layers that `pixelsr.models` lacks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.models import (
    ConditioningNetwork,
    DiagonalBiLSTM,
    GatedPixelCNN,
    PixelCNN,
    PixelRecursiveSR,
    RowLSTM,
)
from pixelsr.nn import GatedLayer, GatedMaskedConv2d, MaskedConv2d, RowLSTMLayer
from tests.support.helpers import randomize


class Network(nn.Module):
    """A composition with 3 colors and 8 levels."""

    colors, levels = 3, 8

    def images(self, images: Tensor) -> Tensor:
        dtype = next(self.parameters()).dtype
        return functional.normalize_images(images, self.colors, self.levels, dtype)

    def logits(self, features: Tensor) -> Tensor:
        return functional.to_logits(features, self.colors, self.levels)


class Concatenated(Network):
    """A network that joins both stacks, and joins them again with the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.vertical = MaskedConv2d(3, 4, 5, mask_type="V-first")
        self.horizontal = MaskedConv2d(3, 6, (1, 5), mask_type="A")
        self.layer = GatedLayer(6, 3)
        self.widen = nn.Conv2d(4, 6, 1)
        self.mixed = MaskedConv2d(12, 7, 3, mask_type="B", in_parts=2)
        self.out = MaskedConv2d(7, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        x = self.images(images)
        first = self.horizontal(x)
        _, horizontal = self.layer(self.widen(self.vertical(x)), first)
        return self.logits(self.out(torch.tanh(self.mixed(torch.cat([horizontal, first], dim=1)))))


class OtherGate(Network):
    """A network with the gate relu(a) * sigmoid(b) - c / 2, from three parts of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 7, 3, mask_type="A")
        self.parts = MaskedConv2d(7, 21, 3, mask_type="B", out_parts=3)
        self.out = MaskedConv2d(7, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        x = functional.normalize_images(images, 3, 8, self.first.weight.dtype)
        first = self.first(x)
        a, b, c = self.parts(nn.functional.elu(first)).chunk(3, dim=1)
        gated = torch.relu(a) * b.sigmoid() - c / 2
        return self.logits(self.out(gated + first))


class Dilated(Network):
    """A network with dilated convolutions, a group that is only its bias, and a sum of three."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 6, 3, mask_type="A", dilation=2)
        self.own = MaskedConv2d(3, 6, 1, mask_type="A")
        self.second = MaskedConv2d(6, 6, 3, mask_type="B", dilation=3)
        self.skip = MaskedConv2d(6, 6, 1, mask_type="B", bias=False)
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        x = self.images(images)
        first = self.first(x) + self.own(x)
        return self.logits(self.out(torch.tanh(self.second(first) + self.skip(first) + first)))


class Conditioned(Network):
    """A network whose low_res enters the prior's own layers, not only the logits."""

    scale_factor = 2

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 6, 2, stride=2)
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.second = MaskedConv2d(6, 6, 3, mask_type="B")
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        hint = torch.fft.fft2(self.up(self.images(low_res))).real  # any operation may be here
        hidden = self.second(torch.tanh(self.first(self.images(images)) + hint))
        return self.logits(self.out(torch.relu(hidden)))


class HintAbove(Network):
    """A network whose masked taps read conditioning features in the rows above."""

    scale_factor = 2

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 6, 2, stride=2)
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.mixed = MaskedConv2d(12, 24, 3, mask_type="B", in_parts=2)

    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        joined = torch.cat([self.up(self.images(low_res)), self.first(self.images(images))], dim=-3)
        return self.logits(self.mixed(joined))


class Broadcast(Network):
    """A network with a scalar, a bias of one dimension less, and one channel that scales all."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(6, 1, 1))
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.weigh = MaskedConv2d(3, 1, (3, 3), mask_type="V-first")
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        x = self.images(images)
        first = (1 - self.first(x)) * torch.sigmoid(self.weigh(x)) + self.offset
        return self.logits(self.out(first + self.alpha * torch.relu(first)) + self.alpha)


class ReadTwice(Network):
    """A network with a module called twice, a sum read twice, dropout and in-place operations."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.again = MaskedConv2d(6, 6, 3, mask_type="B")
        self.dropout = nn.Dropout(0.5)
        self.relu = nn.ReLU(inplace=True)
        self.out = MaskedConv2d(6, 24, (1, 1), mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        first = self.dropout(self.again(self.first(self.images(images))))
        doubled = first + first
        doubled += self.again(doubled + doubled)  # in-place, on a tensor that no gradient needs
        a, b, c = torch.chunk(-doubled, chunks=3, dim=1)
        return self.logits(self.out(self.relu(torch.cat(tensors=[a * a, b, c + 1], dim=-3) + 1)))


class TwoOutputs(Network):
    """A network that takes the levels of a color from two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 6, 3, mask_type="A")
        self.low = MaskedConv2d(6, 12, 1, mask_type="A")
        self.high = MaskedConv2d(6, 12, 1, mask_type="A")

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.first(self.images(images)))
        low_red, low_green, low_blue = self.low(x).chunk(3, 1)
        red, green, blue = self.high(x).chunk(3, 1)
        return self.logits(torch.cat([low_red, red, low_green, green, low_blue, blue], 1))


class BeforeTheGate(Network):
    """A network that reads one, both or none of a gate's outputs, also in the rows above.

    It also reads what is added before the gate.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = GatedMaskedConv2d(3, 14, 3, mask_type="A", out_parts=2)
        self.both = MaskedConv2d(21, 14, 3, mask_type="B", in_parts=3, out_parts=2)
        self.only = GatedMaskedConv2d(14, 12, (3, 1), mask_type="B", in_parts=2, out_parts=2)
        self.unused = GatedMaskedConv2d(6, 6, 1, mask_type="B")
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        gated, before = self.first(self.images(images))
        mixed = self.both(torch.cat([before, gated], dim=1), add=before)
        h, _ = self.only(mixed, add=torch.tanh(self.only(mixed)[1]))
        return self.logits(self.out(h, add=None) + self.out(self.unused(h, h)[1]))


class Small(Network):
    """A network with taps above, to the left and at the center, in few steps."""

    colors = 2

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(2, 5, 3, mask_type="A", colors=2)
        self.second = MaskedConv2d(5, 6, 3, mask_type="B", colors=2)
        self.out = MaskedConv2d(6, 16, 1, mask_type="B", colors=2)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.second(torch.relu(self.first(self.images(images))))
        return self.logits(self.out(torch.tanh(hidden)))


class Pointwise(Network):
    """A network with many pointwise functions, some with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 40, 3, mask_type="A")
        self.out = MaskedConv2d(40, 24, 1, mask_type="B")
        self.elu, self.one, self.each = nn.ELU(alpha=0.7), nn.PReLU(), nn.PReLU(40)

    def forward(self, images: Tensor) -> Tensor:
        x = 30 * self.first(self.images(images))
        y = torch.exp(-x * x / 900) + self.elu(x) / 10 - nn.functional.silu(x) / 7
        y = y + torch.relu(x) * torch.sigmoid(-x) + torch.tanh(x) * torch.sigmoid(x + 1)
        y = y + self.each(nn.functional.gelu(x)) / 9 - self.one(x).clamp(-2, 5) / 3
        y = y + nn.functional.softplus(x, 0.5) / 8 - torch.maximum(x, x.abs().pow(1.5) / 40) / 9
        return self.logits(self.out(y - torch.exp(x / 400) * 0.5))


class Silent(Network):
    """A network whose logits are all zero, so that only the noise draws."""

    def __init__(self, colors: int = 3, levels: int = 8) -> None:
        super().__init__()
        self.colors, self.levels = colors, levels
        self.out = MaskedConv2d(colors, colors * levels, 3, mask_type="A", colors=colors)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.images(images)))


class Unpadded(Network):
    """A Row LSTM on the image itself, with a skip, whose gates are also read elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 24, 3, mask_type="A", out_parts=4)
        self.weight = nn.Parameter(torch.zeros(24, 6, 5))
        self.initial = nn.Parameter(torch.zeros(2, 6))
        self.mix = MaskedConv2d(24, 8, 1, mask_type="B", in_parts=4)
        self.layer = RowLSTMLayer(4, kernel_size=1)
        self.out = MaskedConv2d(8, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        gates = self.first(self.images(images))
        hidden = functional.row_lstm(torch.tanh(gates), self.weight, self.initial)
        x = torch.cat([hidden, gates.chunk(4, 1)[1], hidden * hidden, gates.chunk(4, 1)[0]], 1)
        return self.logits(self.out(self.layer(self.mix(x))))


class OnlyLeft(Network):
    """A Diagonal BiLSTM as the first layer, on an image shifted by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 48, 1, mask_type="A", out_parts=8)
        self.weight = nn.Parameter(torch.zeros(24, 6, 2))
        self.other = nn.Parameter(torch.zeros(24, 6, 2))
        self.initial = nn.Parameter(torch.zeros(2, 6))
        self.out = MaskedConv2d(6, 24, 1, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        gates = self.first(F.pad(self.images(images), (0, 2)))
        maps = functional.diagonal_bilstm(
            gates, self.weight, self.initial, self.other, self.initial
        )
        return self.logits(self.out(maps[..., :-1][..., :-1]))


class ReadAround(Network):
    """A network with wide kernels on hidden states, on a cropped map, and on one padded again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 24, 3, mask_type="A", out_parts=4)
        self.weight = nn.Parameter(torch.zeros(24, 6, 3))
        self.initial = nn.Parameter(torch.zeros(2, 6))
        self.offset = nn.Parameter(torch.zeros(6, 1, 1))
        self.wide = MaskedConv2d(6, 6, 3, mask_type="B")
        self.out = MaskedConv2d(6, 24, 3, mask_type="B")

    def forward(self, images: Tensor) -> Tensor:
        gates = self.first(F.pad(self.images(images), (0, 1)))
        x = functional.row_lstm(gates, weight=self.weight, initial_state=self.initial)
        x = self.wide(torch.tanh(self.wide(x) + self.offset)[..., :-1])
        x = self.wide(F.pad(torch.relu(self.wide(F.pad(x, (0, 1)))[..., :-1]), (0, 1)))
        return self.logits(self.out(x[..., :-1]))


def _sr(prior: nn.Module) -> PixelRecursiveSR:
    sizes = {"colors": prior.colors, "levels": prior.levels, "scale_factor": 2}
    return PixelRecursiveSR(prior, ConditioningNetwork(channels=4, blocks=1, **sizes))


def _gated(**options: int) -> GatedPixelCNN:
    return GatedPixelCNN(
        **{"channels": 7, "layers": 2, "head_channels": 10, "levels": 8, **options}
    )


def _pixelcnn(**options: int) -> PixelCNN:
    return PixelCNN(**{"channels": 5, "layers": 3, "head_channels": 10, "levels": 8, **options})


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "GatedPixelCNN": _gated,
    "GatedPixelCNN-gray-binary": lambda: _gated(colors=1, levels=2),
    "GatedPixelCNN-2-colors": lambda: _gated(colors=2, kernel_size=3),
    "GatedPixelCNN-4-colors-256-levels": lambda: _gated(colors=4, levels=256, head_channels=12),
    "PixelCNN": _pixelcnn,
    "PixelCNN-2-colors-5x5": lambda: _pixelcnn(colors=2, kernel_size=5),
    "PixelRecursiveSR-gated": lambda: _sr(_gated()),
    "PixelRecursiveSR-pixelcnn": lambda: _sr(_pixelcnn()),
    "Concatenated": Concatenated,
    "OtherGate": OtherGate,
    "Dilated": Dilated,
    "Conditioned": Conditioned,
    "HintAbove": HintAbove,
    "Broadcast": Broadcast,
    "ReadTwice": ReadTwice,
    "TwoOutputs": TwoOutputs,
    "BeforeTheGate": BeforeTheGate,
}


_LSTM = {"channels": 6, "layers": 2, "levels": 4, "head_channels": 9}
RECURRENT: dict[str, Callable[[], nn.Module]] = {
    "RowLSTM": lambda: RowLSTM(**_LSTM),
    "DiagonalBiLSTM": lambda: DiagonalBiLSTM(**_LSTM),
    "RowLSTM-gray-wide-skip": lambda: RowLSTM(**_LSTM, colors=1, kernel_size=5, skip=True),
    "DiagonalBiLSTM-gray-skip": lambda: DiagonalBiLSTM(**_LSTM, colors=1, skip=True),
    "RowLSTM-multi-scale": lambda: RowLSTM(**_LSTM, scale_factor=2),
    "DiagonalBiLSTM-multi-scale": lambda: DiagonalBiLSTM(**_LSTM, scale_factor=2),
    "PixelRecursiveSR-diagonal": lambda: _sr(DiagonalBiLSTM(**_LSTM)),
    "Unpadded": Unpadded,
    "OnlyLeft": OnlyLeft,
    "ReadAround": ReadAround,
}

_TINY = {"channels": 4, "layers": 1, "first_kernel_size": 3, "head_channels": 6}
_TINY |= {"colors": 1, "levels": 4}
TINY: dict[str, Callable[[], nn.Module]] = {
    "Small": Small,
    "Pointwise": Pointwise,
    "RowLSTM-tiny": lambda: RowLSTM(**_TINY),
    "DiagonalBiLSTM-tiny": lambda: DiagonalBiLSTM(**_TINY),
    "DiagonalBiLSTM-tiny-multi-scale": lambda: DiagonalBiLSTM(**_TINY, scale_factor=2),
    "PixelRecursiveSR-tiny": lambda: _sr(DiagonalBiLSTM(**_TINY)),
}
"""Networks that even Triton's interpreter runs in less than a second."""


def network(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a randomized network for which the past matters."""
    return randomize((NETWORKS | RECURRENT | TINY)[name]()).to(dtype).eval()


def inputs(model: nn.Module, count: int = 1, size: tuple[int, int] = (6, 4)) -> dict[str, object]:
    """Return the arguments that say what to draw:

    `low_res` if the model takes it, or `image_size`.
    """
    if not hasattr(model, "scale_factor"):
        return {"image_size": size}
    shape = (count, model.colors, size[0] // model.scale_factor, size[1] // model.scale_factor)
    generator = torch.Generator().manual_seed(1)
    return {"low_res": torch.randint(model.levels, shape, dtype=torch.uint8, generator=generator)}
