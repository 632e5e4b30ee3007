"""Models that lack one part each: a term of the loss, the color masks, the second stack.

And the sizes and the budget at which they are compared with the whole.
"""

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


class PixelRecursiveSROneTerm(PixelRecursiveSR):
    """Trained without the second term of the loss: -log softmax(A + B)[y] is all there is."""

    def terms(
        self, images: Tensor, low_res: Tensor, conditioning_scale: float = 1.0
    ) -> tuple[Tensor, ...]:
        return super().terms(images, low_res, conditioning_scale)[:1]


class GatedPixelCNNGrayMasks(GatedPixelCNN):
    """Masks of pixels alone: given the past pixels, the colors of a pixel are independent.

    Every mask is that of one color: A shuts all of the own pixel, B nothing of its features. The
    first weights are those of `GatedPixelCNN`, scaled so that signals keep their size with more
    live taps.

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
        """None: losses without logits mask the colors of these layers."""
        return None


@torch.no_grad()
def _open_colors(layer: MaskedConv2d) -> None:
    before = layer.mask("cpu").sum().item()
    layer.colors = 1
    layer.weight.mul_(math.sqrt(before / layer.mask("cpu").sum().item()))


class OneStackLayer(nn.Module):
    """``x + out(gate(conv(x)))``: the gated layer with a single stack.

    Args:
        channels: p; the convolution emits 2 p.
        kernel_size: n, odd.
        colors: color groups.
    Shape:
        ``[N, channels, H, W]`` to the same.
    """

    def __init__(self, channels: int, kernel_size: int, colors: int) -> None:
        super().__init__()
        self.conv = GatedMaskedConv2d(channels, 2 * channels, kernel_size, "B", colors, out_parts=2)
        self.out = MaskedConv2d(channels, channels, 1, "B", colors)
        # As strong as the two convolutions that reach the gate of the layer with two stacks.
        init.normal_(self.conv, gain=math.sqrt(2))
        init.normal_(self.out)

    def forward(self, x: Tensor) -> Tensor:
        gated, _ = self.conv(x)
        return self.out(gated, add=x)


class OneStackPixelCNN(PixelModel):
    """`GatedPixelCNN` with one stack in place of two: it has the PixelCNN's blind spot.

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
        self.first = MaskedConv2d(c.colors, c.channels, c.first_kernel_size, "A", c.colors)
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
    """Sizes and budget.

    Args:
        side: of the images.
        prior: options of the `GatedPixelCNN`.
        one_stack: channels of `OneStackPixelCNN`, for as many live parameters.
        blocks: of the `ConditioningNetwork`.
        recipe: of all models.
        steps: of each.
        turns: that they are cut into; after each the held-out images are measured.
    """

    side: int
    prior: Mapping[str, int]
    one_stack: int
    blocks: int
    recipe: TrainingConfig
    steps: int
    turns: int


SCALES = {
    "small": Scale(
        side=16,
        prior={"channels": 30, "layers": 5, "kernel_size": 3, "head_channels": 96},
        one_stack=42,
        blocks=2,
        recipe=TrainingConfig(batch=8, lr=3e-3, warmup=50, floor=0, ema=0.99),
        steps=1_500,
        turns=3,
    ),
    "paper": Scale(
        side=32,
        prior={"channels": 64, "layers": 20, "kernel_size": 5, "head_channels": 1024},
        one_stack=79,
        blocks=6,
        recipe=TrainingConfig(batch=32, optimizer="rmsprop", lr=4e-4, floor=0),
        steps=100_000,
        turns=40,
    ),
}


def build(name: str, scale: Scale) -> PixelModel:
    """An untrained model of an arm, by the name that it has in the figures."""
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
    """How much of its past the center of a square image reads, as a fraction of the pixels.

    Measured on a narrow network of one color: which pixels are read depends on kernels and depth,
    not on channels.
    """
    size = {"layers": layers, "kernel_size": kernel_size, "channels": 8, "head_channels": 16}
    torch.manual_seed(0)
    model = kind(**size, colors=1, levels=2)
    row = column = side // 2
    seen = receptive_field(model, (side, side), (row, column))
    return int(seen.sum()) / (row * side + column)
