"""Random causal networks and requests, drawn by hypothesis so that it can shrink failures."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
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
from pixelsr.nn import GatedMaskedConv2d, MaskedConv2d
from tests.support.helpers import randomize

Draw = Callable[[st.SearchStrategy[Any]], Any]

POINTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "silu": F.silu,
    "neg": lambda x: -x,
    "square": lambda x: x * x,
    "one minus": lambda x: 1 - x,
    "half": lambda x: x / 2,
    "exp": lambda x: torch.exp(torch.tanh(x)),
    "one over": lambda x: 1 / (2 + torch.tanh(x)),
    "first channel": lambda x: x * torch.sigmoid(x[:, :1]),
}


class RandomNetwork(nn.Module):
    """A chain of operations on a horizontal map with skips, and an optional vertical map."""

    def __init__(self, draw: Draw, colors: int, levels: int, low_res: bool) -> None:
        super().__init__()
        self.colors, self.levels = colors, levels
        odd = st.sampled_from([1, 3, 5])
        self.channels = draw(st.integers(1, 6))
        width, kernel = self.channels, (draw(odd), draw(odd))
        self.first = MaskedConv2d(
            colors, width, kernel, mask_type="A", colors=colors, dilation=draw(st.integers(1, 2))
        )
        self.steps = nn.ModuleList()
        self.kinds: list[tuple[str, str]] = []
        if low_res:
            self.scale_factor = 2
            self.up = nn.ConvTranspose2d(colors, width, 2, stride=2)
        if draw(st.booleans()):
            self.above = MaskedConv2d(
                colors, width, (3, draw(odd)), mask_type="V-first", colors=colors
            )
            self.link = nn.Conv2d(width, width, 1, bias=draw(st.booleans()))
        for _ in range(draw(st.integers(0, 5))):
            kind = draw(st.sampled_from(["conv", "gate", "pointwise", "concat", "offset", "skip"]))
            name = draw(st.sampled_from(sorted(POINTWISE))) if kind == "pointwise" else ""
            self.kinds.append((kind, name))
            self.steps.append(self._layer(kind, (draw(odd), draw(odd)), draw(st.integers(1, 3))))
        out = draw(st.sampled_from([1, 3]))
        self.out = MaskedConv2d(width, colors * levels, out, mask_type="B", colors=colors)

    def _layer(self, kind: str, kernel: tuple[int, int], dilation: int) -> nn.Module:
        n, colors = self.channels, self.colors
        options = {"mask_type": "B", "colors": colors, "dilation": dilation}
        if kind == "conv":
            return MaskedConv2d(n, n, kernel, **options)
        if kind == "gate":
            return GatedMaskedConv2d(n, 2 * n, kernel, out_parts=2, **options)
        if kind == "concat":
            return MaskedConv2d(2 * n, n, kernel, in_parts=2, **options)
        return nn.ParameterList([nn.Parameter(torch.zeros(n, 1, 1))])

    def features(self, images: Tensor, low_res: Tensor | None) -> Tensor:
        dtype = self.out.weight.dtype
        x = functional.normalize_images(images, self.colors, self.levels, dtype)
        first = h = self.first(x)
        if hasattr(self, "above"):
            h = self.link(torch.tanh(self.above(x))) + h
        if low_res is not None:
            h = h + self.up(functional.normalize_images(low_res, self.colors, self.levels, dtype))
        for (kind, name), step in zip(self.kinds, self.steps, strict=True):
            if kind == "conv":
                h = step(h)
            elif kind == "gate":
                h = step(h)[0]
            elif kind == "concat":
                h = step(torch.cat([h, first], 1))
            elif kind == "offset":
                h = h + step[0]
            elif kind == "skip":
                h = h + first
            else:
                h = POINTWISE[name](h)
        return self.out(h)

    def forward(self, images: Tensor) -> Tensor:
        return functional.to_logits(self.features(images, None), self.colors, self.levels)


class RandomConditionalNetwork(RandomNetwork):
    def forward(self, images: Tensor, low_res: Tensor) -> Tensor:
        return functional.to_logits(self.features(images, low_res), self.colors, self.levels)


def _prior(draw: Draw, colors: int, levels: int) -> nn.Module:
    sizes = {
        "channels": draw(st.integers(1, 6)),
        "layers": draw(st.integers(1, 2)),
        "first_kernel_size": draw(st.sampled_from([3, 5])),
        "head_channels": draw(st.integers(1, 8)),
        "colors": colors,
        "levels": levels,
    }
    kind = draw(st.sampled_from([GatedPixelCNN, PixelCNN, RowLSTM, DiagonalBiLSTM]))
    if kind is not DiagonalBiLSTM:
        sizes["kernel_size"] = draw(st.sampled_from([1, 3]))
    return kind(**sizes)


@st.composite
def models(draw: Draw) -> nn.Module:
    """Return a random network in float64 with random parameters."""
    colors = draw(st.integers(1, 4))
    levels = draw(st.sampled_from([2, 3, 8, 17, 256]))
    kind = draw(st.sampled_from(["own", "own with low_res", "prior", "sum"]))
    if kind == "own":
        model: nn.Module = RandomNetwork(draw, colors, levels, low_res=False)
    elif kind == "own with low_res":
        model = RandomConditionalNetwork(draw, colors, levels, low_res=True)
    else:
        model = _prior(draw, colors, levels)
    if kind == "sum":
        sizes = {"colors": colors, "levels": levels, "scale_factor": 2}
        model = PixelRecursiveSR(model, ConditioningNetwork(channels=3, blocks=1, **sizes))
    return randomize(model, draw(st.integers(0, 2**16))).double().eval()


@st.composite
def requests(draw: Draw, model: nn.Module) -> dict[str, Any]:
    """Return arguments of `pixelsr.sample` for a model, usually with known values."""
    n, inputs = draw(st.integers(1, 3)), 1
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    request: dict[str, Any] = {"n": n, "image_size": (height, width)}
    if hasattr(model, "scale_factor"):
        inputs = draw(st.integers(1, 2))
        shape = (inputs, model.colors, height, width)
        low_res = torch.randint(model.levels, shape, dtype=torch.uint8, generator=generator)
        height, width = 2 * height, 2 * width
        request = {"n": n, "low_res": low_res}
    mask = draw(known_masks((model.colors, height, width), n * inputs, generator))
    if mask is not None:
        shape = tuple(mask.shape)
        request["known_mask"] = mask
        request["known"] = torch.randint(
            model.levels, shape, dtype=torch.uint8, generator=generator
        )
    request["seed"] = draw(st.sampled_from([0, 1, 2**32, 2**64 - 1]))
    request["first_index"] = draw(st.sampled_from([0, 5, 2**32 - 1]))
    request["temperature"] = draw(st.sampled_from([1.0, 0.5, 3.0, 0]))
    return request


@st.composite
def known_masks(
    draw: Draw, shape: tuple[int, int, int], samples: int, generator: torch.Generator
) -> Tensor | None:
    """Return a mask of known values: none, scattered by color, leading rows, or all but a box."""
    kind = draw(st.sampled_from(["none", "scattered", "pixels", "leading rows", "a hole"]))
    if kind == "none":
        return None
    count = draw(st.sampled_from([1, samples]))
    colors, height, width = shape
    share = draw(st.sampled_from([0.1, 0.5, 0.9, 1.1]))
    if kind in ("scattered", "pixels"):
        own = 1 if kind == "pixels" else colors
        mask = torch.rand(count, own, height, width, generator=generator) < share
        return mask.expand(count, *shape).clone()
    row, col = draw(st.integers(0, height)), draw(st.integers(0, width))
    if kind == "leading rows":
        mask = torch.zeros(count, *shape, dtype=torch.bool)
        mask[:, :, :row] = True
        return mask
    mask = torch.ones(count, *shape, dtype=torch.bool)
    mask[:, draw(st.integers(0, colors - 1)) :, row // 2 : row, col // 2 : col] = False
    return mask
