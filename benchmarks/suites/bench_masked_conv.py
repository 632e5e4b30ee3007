"""The time of a masked convolution, forward and backward: ours, dense, and cropped in two lines.

The input is 16 maps of 32x32 in float32 on a CPU, in both memory formats; all sides take turns.
`benchmarks.tools.gpu` measures a GPU.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr import functional
from pixelsr.bench.timing import median_ratio
from pixelsr.masks import causal_mask, live_rectangle

from .turns import time_in_turns

Side = Callable[[], Tensor]
SHAPES = [
    (64, 128, 5, "V"),
    (64, 128, 5, "B"),
    (3, 64, 7, "A"),
    (64, 64, 7, "B"),
    (128, 128, 3, "B"),
    (64, 1024, 1, "B"),
    (1024, 768, 1, "B"),
]
IMAGES, ROUNDS = 16, 9
LAYOUTS = ["contiguous", "channels last"]
TOLERANCE = 1e-3
"""The largest error of an output or gradient, relative to its largest entry."""


def masked(weight: Tensor, mask_type: str) -> Tensor:
    out_channels, in_channels, *size = weight.shape
    mask = causal_mask(
        in_channels, out_channels, tuple(size), mask_type=mask_type, device=weight.device
    )
    return weight * mask.to(weight.dtype)


def dense(x: Tensor, weight: Tensor, bias: Tensor, mask_type: str) -> Tensor:
    return F.conv2d(x, masked(weight, mask_type), bias, padding=weight.shape[2] // 2)


def cropped(x: Tensor, weight: Tensor, bias: Tensor, mask_type: str) -> Tensor:
    rows, cols = live_rectangle(tuple(weight.shape[2:]), mask_type)
    half = weight.shape[2] // 2
    padding = (half, cols - 1 - half, half, rows - 1 - half)
    return F.conv2d(F.pad(x, padding), masked(weight, mask_type)[:, :, :rows, :cols], bias)


def ours(x: Tensor, weight: Tensor, bias: Tensor, mask_type: str) -> Tensor:
    return functional.masked_conv2d(x, weight, bias, mask_type=mask_type)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "size", "mask_type"),
    SHAPES,
    ids=[f"{k}x{k}-{i}-{o}-{m}" for i, o, k, m in SHAPES],
)
def test_forward_and_backward(
    benchmark, in_channels: int, out_channels: int, size: int, mask_type: str, layout: str
) -> None:
    torch.manual_seed(0)
    order = torch.channels_last if layout == "channels last" else torch.contiguous_format
    x, grad = (
        torch.randn(IMAGES, channels, 32, 32).to(memory_format=order)
        for channels in (in_channels, out_channels)
    )
    shape = (out_channels, in_channels, size, size)
    weight = (torch.randn(shape) / 30).to(memory_format=order)
    parameters = [tensor.requires_grad_() for tensor in (x, weight, torch.randn(out_channels))]
    run: dict[str, Side] = {
        side.__name__: partial(side, *parameters, mask_type) for side in (ours, dense, cropped)
    }

    def turn(forward: Side) -> list[Tensor]:
        y = forward()
        return [y, *torch.autograd.grad(y, parameters, grad)]

    results = {name: turn(forward) for name, forward in run.items()}
    for name, found in results.items():
        for one, other in zip(results["ours"], found, strict=True):
            error = (one.double() - other.double()).abs().max() / other.double().abs().max()
            assert error <= TOLERANCE, f"{name} differs"
    sides = {name: partial(turn, forward) for name, forward in run.items()}
    times = time_in_turns(benchmark, x.device, sides, ROUNDS, warm_ups=0)
    for name in run.keys() - {"ours"}:
        ratio = median_ratio(times[name], times["ours"])
        benchmark.extra_info[f"times faster than {name}"] = round(ratio, 2)
    print("\nforward and backward:", dict(benchmark.extra_info))
