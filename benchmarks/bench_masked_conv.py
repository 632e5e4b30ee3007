"""Forward and backward of a masked convolution: ours, the dense one, the one cropped in two lines.

16 maps of 32x32, contiguous and channels last, the three taking turns.
"""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr import functional
from pixelsr.masks import causal_mask, live_rectangle

SHAPES = [
    (64, 128, 5, "V"),
    (64, 128, 5, "B"),
    (3, 64, 7, "A"),
    (64, 64, 7, "B"),
    (128, 128, 3, "B"),
    (64, 1024, 1, "B"),
]
ROUNDS = 9


def sides(
    x: Tensor, weight: Tensor, bias: Tensor, mask_type: str
) -> dict[str, Callable[[], Tensor]]:
    out_channels, in_channels, size, _ = weight.shape
    mask = causal_mask(out_channels, in_channels, (size, size), mask_type).to(weight.dtype)
    rows, cols = live_rectangle((size, size), mask_type)
    half = size // 2
    padding = (half, cols - 1 - half, half, rows - 1 - half)
    return {
        "ours": lambda: functional.masked_conv2d(x, weight, bias, mask_type=mask_type),
        "dense": lambda: F.conv2d(x, weight * mask, bias, padding=half),
        "cropped": lambda: F.conv2d(F.pad(x, padding), (weight * mask)[:, :, :rows, :cols], bias),
    }


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "size", "mask_type"),
    SHAPES,
    ids=[f"{k}x{k}-{i}-{o}-{m}" for i, o, k, m in SHAPES],
)
def test_forward_and_backward(
    benchmark, device, in_channels: int, out_channels: int, size: int, mask_type: str, layout: str
) -> None:
    torch.manual_seed(0)
    order = torch.channels_last if layout == "channels last" else torch.contiguous_format
    x, grad = (
        torch.randn(16, channels, 32, 32, device=device).to(memory_format=order)
        for channels in (in_channels, out_channels)
    )
    weight = torch.randn(out_channels, in_channels, size, size, device=device) / 30
    parameters = [p.requires_grad_() for p in (x, weight, torch.randn(out_channels, device=device))]
    run = sides(x, weight, parameters[2], mask_type)
    results = {}
    for name, forward in run.items():
        y = forward()
        results[name] = [y, *torch.autograd.grad(y, parameters, grad)]
    for name in ("dense", "cropped"):
        torch.testing.assert_close(results[name], results["ours"], rtol=1e-3, atol=1e-3)
    times: dict[str, list[float]] = {name: [] for name in run}

    def measure_once() -> None:
        for name, forward in run.items():
            start = time.perf_counter()
            torch.autograd.grad(forward(), parameters, grad)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)

    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=0)
    for name in ("dense", "cropped"):
        ratios = [a / b for a, b in zip(times[name], times["ours"], strict=True)]
        benchmark.extra_info[f"times faster than {name}"] = round(statistics.median(ratios), 2)
    print("\nforward and backward:", dict(benchmark.extra_info))
