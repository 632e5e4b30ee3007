"""Models that lack a loss term, the color masks or the second stack; their sizes and budget."""

import dataclasses
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.analysis.receptive_field import receptive_field
from pixelsr.models import ConditioningNetwork, GatedPixelCNN, PixelModel, PixelRecursiveSR
from pixelsr.models.base import Layers, is_plain
from pixelsr.models.pixelcnn import GatedPixelCNNConfig, Head
from pixelsr.nn import GatedMaskedConv2d, MaskedConv2d, init
from pixelsr.training import TrainingConfig

SCALE_FACTOR = 4


@dataclasses.dataclass(frozen=True)
class Arm:
    """An arm: its names on a sheet and in a plot, and the arm that it is compared with."""

    title: str
    label: str
    base: str | None = None


ARMS = {
    "sum": Arm("sum, both terms of the loss", "both terms"),
    "sum-one-term": Arm("sum, without the second term", "without the\nsecond term", "sum"),
    "prior": Arm("prior", "prior"),
    "prior-gray-masks": Arm("prior, without color masks", "without\ncolor masks", "prior"),
    "prior-one-stack": Arm("prior, one stack: a blind spot", "with a\nblind spot", "prior"),
}
SUMS = ("sum", "sum-one-term")


class PixelRecursiveSROneTerm(PixelRecursiveSR):
    """The sum trained without the second term of the loss: only -log softmax(A + B)[y] is left."""

    def terms(
        self,
        images: Tensor,
        low_res: Tensor | None = None,
        *,
        conditioning_scale: float = 1.0,
    ) -> tuple[Tensor, ...]:
        return super().terms(images, low_res, conditioning_scale=conditioning_scale)[:1]


class GatedPixelCNNGrayMasks(GatedPixelCNN):
    """A prior that masks pixels only: given the past pixels, the colors are independent.

    Every mask is the mask of one color: A masks all of the pixel itself, B none of its features.
    The initial weights are the weights of `GatedPixelCNN`, scaled so that signals keep their size
    with more live taps.

    Args:
        **options: the fields of `GatedPixelCNNConfig`.
    Shape:
        images, uint8 ``[N, colors, H, W]``, to logits ``[N, levels, colors, H, W]``.
    """

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        for layer in self.modules():
            if isinstance(layer, MaskedConv2d):
                _open_colors(layer)

    def output_layers(self) -> Layers | None:
        """Return None: losses without logits mask the colors of these layers."""
        return None


@torch.no_grad()
def _open_colors(layer: MaskedConv2d) -> None:
    before = layer.mask("cpu").sum().item()
    layer.colors = 1
    layer.weight.mul_(math.sqrt(before / layer.mask("cpu").sum().item()))


class OneStackLayer(nn.Module):
    """The gated layer with a single stack, ``x + out(gate(conv(x)))``.

    Args:
        channels: number p of channels; the convolution has 2 p output channels.
        kernel_size: odd size n.
        colors: number of color groups.
    Shape:
        ``[N, channels, H, W]`` to the same.
    """

    def __init__(self, channels: int, kernel_size: int, colors: int) -> None:
        super().__init__()
        self.conv = GatedMaskedConv2d(
            channels, 2 * channels, kernel_size, mask_type="B", colors=colors, out_parts=2
        )
        self.out = MaskedConv2d(channels, channels, 1, mask_type="B", colors=colors)
        # As strong as the two convolutions that feed the gate of the layer with two stacks.
        init.normal_(self.conv, gain=math.sqrt(2))
        init.normal_(self.out)

    def forward(self, x: Tensor) -> Tensor:
        gated, _ = self.conv(x)
        return self.out(gated, add=x)


class OneStackPixelCNN(PixelModel):
    """A `GatedPixelCNN` with one stack instead of two, which has the blind spot of PixelCNN.

    Args:
        **options: the fields of `GatedPixelCNNConfig`.
    Shape:
        images, uint8 ``[N, colors, H, W]``, to logits ``[N, levels, colors, H, W]``.
    """

    Config = GatedPixelCNNConfig
    config: GatedPixelCNNConfig

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.config = c = GatedPixelCNNConfig(**options)
        self.first = MaskedConv2d(
            c.colors, c.channels, c.first_kernel_size, mask_type="A", colors=c.colors
        )
        init.normal_(self.first)
        self.layers = nn.ModuleList(
            OneStackLayer(c.channels, c.kernel_size, c.colors) for _ in range(c.layers)
        )
        self.head = Head(c.channels, c.head_channels, c.colors, c.levels)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def output_layers(self) -> Layers | None:
        return self.head.layers() if is_plain(self.head, Head) else None

    def features(self, images: Tensor) -> Tensor:
        c = self.config
        x = self.first(functional.normalize_images(images, c.colors, c.levels, self.dtype))
        for layer in self.layers:
            x = layer(x)
        return F.relu(x)


@dataclasses.dataclass(frozen=True)
class Scale:
    """The sizes of the models and the training budget.

    Args:
        side: side of the images.
        prior: options of the `GatedPixelCNN`.
        one_stack: channels of `OneStackPixelCNN`, for the same number of live parameters.
        blocks: blocks of the `ConditioningNetwork`.
        training_config: config of all models.
        steps: training steps of each model.
        turns: number of turns; each ends with a measurement of the held-out images.
    """

    side: int
    prior: Mapping[str, int]
    one_stack: int
    blocks: int
    training_config: TrainingConfig
    steps: int
    turns: int


SCALES = {
    "small": Scale(
        side=16,
        prior={"channels": 30, "layers": 5, "kernel_size": 3, "head_channels": 96},
        one_stack=42,
        blocks=2,
        training_config=TrainingConfig(batch=8, lr=3e-3, warmup=50, floor=0, ema=0.99),
        steps=1_500,
        turns=3,
    ),
    "paper": Scale(
        side=32,
        prior={"channels": 64, "layers": 20, "kernel_size": 5, "head_channels": 1024},
        one_stack=79,
        blocks=6,
        training_config=TrainingConfig(batch=32, optimizer="rmsprop", lr=4e-4, floor=0),
        steps=100_000,
        turns=40,
    ),
}


def build(name: str, scale: Scale) -> PixelModel:
    """Return the untrained model of an arm, by a key of `ARMS`."""
    if name == "prior-gray-masks":
        return GatedPixelCNNGrayMasks(**scale.prior)
    if name == "prior-one-stack":
        return OneStackPixelCNN(**{**scale.prior, "channels": scale.one_stack})
    prior = GatedPixelCNN(**scale.prior)
    if name == "prior":
        return prior
    conditioning = ConditioningNetwork(blocks=scale.blocks, scale_factor=SCALE_FACTOR)
    kind = PixelRecursiveSR if name == "sum" else PixelRecursiveSROneTerm
    return kind(prior, conditioning)


def visible_share(kind: type[PixelModel], layers: int, kernel_size: int, side: int) -> float:
    """Return the share of its past pixels that the center of a square image reads.

    It is measured on a narrow network of one color: the receptive field depends on kernels and
    depth, not on channels.
    """
    size = {"layers": layers, "kernel_size": kernel_size, "channels": 8, "head_channels": 16}
    torch.manual_seed(0)
    model = kind(**size, colors=1, levels=2)
    row = column = side // 2
    seen = receptive_field(model, (side, side), position=(row, column))
    return int(seen.sum()) / (row * side + column)
