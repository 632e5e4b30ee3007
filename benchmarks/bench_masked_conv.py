"""Forward and backward of a masked convolution: ours, the dense one, the one cropped in two lines.

On a CPU 16 maps of 32x32 and float32, in both memory formats. On a GPU 128 maps, channels last,
bfloat16 and float32, and the two plain ones through torch.compile as well. All take turns.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr import functional
from pixelsr.benchmark.clock import median_ratio, seconds
from pixelsr.masks import causal_mask, live_rectangle

Side = Callable[[], Tensor]
HAS_GPU = torch.cuda.is_available()
SHAPES = [
    (64, 128, 5, "V"),
    (64, 128, 5, "B"),
    (3, 64, 7, "A"),
    (64, 64, 7, "B"),
    (128, 128, 3, "B"),
    (64, 1024, 1, "B"),
    (1024, 768, 1, "B"),
]
IMAGES = 128 if HAS_GPU else 16
DTYPES = [torch.bfloat16, torch.float32] if HAS_GPU else [torch.float32]
LAYOUTS = ["channels last"] if HAS_GPU else ["contiguous", "channels last"]
ROUNDS, REPEATS = (30, 10) if HAS_GPU else (9, 1)
TOLERANCE = {torch.float32: 3e-3 if HAS_GPU else 1e-3, torch.bfloat16: 3e-2}
"""Of outputs and gradients, relative to the largest: TF32 and bfloat16 round differently."""


def sides(x: Tensor, weight: Tensor, bias: Tensor, mask_type: str) -> dict[str, Side]:
    out_channels, in_channels, size, _ = weight.shape
    mask = causal_mask(out_channels, in_channels, (size, size), mask_type, device=weight.device)
    mask = mask.to(weight.dtype)
    rows, cols = live_rectangle((size, size), mask_type)
    half = size // 2
    padding = (half, cols - 1 - half, half, rows - 1 - half)

    def dense() -> Tensor:
        return F.conv2d(x, weight * mask, bias, padding=half)

    def cropped() -> Tensor:
        return F.conv2d(F.pad(x, padding), (weight * mask)[:, :, :rows, :cols], bias)

    ours = partial(functional.masked_conv2d, x, weight, bias, mask_type=mask_type)
    plain: dict[str, Side] = {"dense": dense, "cropped": cropped}
    if HAS_GPU:
        plain |= {f"{name}, compiled": torch.compile(side) for name, side in plain.items()}
    return {"ours": ours, **plain}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("in_channels", "out_channels", "size", "mask_type"),
    SHAPES,
    ids=[f"{k}x{k}-{i}-{o}-{m}" for i, o, k, m in SHAPES],
)
def test_forward_and_backward(
    benchmark,
    device: torch.device,
    in_channels: int,
    out_channels: int,
    size: int,
    mask_type: str,
    layout: str,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    order = torch.channels_last if layout == "channels last" else torch.contiguous_format
    x, grad = (
        torch.randn(IMAGES, channels, 32, 32, device=device, dtype=dtype).to(memory_format=order)
        for channels in (in_channels, out_channels)
    )
    shape = (out_channels, in_channels, size, size)
    weight = (torch.randn(shape, device=device, dtype=dtype) / 30).to(memory_format=order)
    bias = torch.randn(out_channels, device=device, dtype=dtype)
    parameters = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    run = sides(x, weight, bias, mask_type)

    def turn(forward: Side) -> list[Tensor]:
        y = forward()
        return [y, *torch.autograd.grad(y, parameters, grad)]

    results = {name: turn(forward) for name, forward in run.items()}
    for name, found in results.items():
        for ours, theirs in zip(results["ours"], found, strict=True):
            error = (ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()
            assert error <= TOLERANCE[dtype], f"{name} differs"
    times: dict[str, list[float]] = {name: [] for name in run}

    def repeat(forward: Side) -> None:
        for _ in range(REPEATS):
            turn(forward)

    def measure_once() -> None:
        for name, forward in run.items():
            times[name].append(seconds(device, repeat, forward) / REPEATS)

    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=0)
    for name in run:
        if name != "ours":
            ratio = median_ratio(times[name], times["ours"])
            benchmark.extra_info[f"times faster than {name}"] = round(ratio, 2)
    if HAS_GPU:
        benchmark.extra_info["milliseconds"] = 1e3 * sorted(times["ours"])[ROUNDS // 2]
    print("\nforward and backward:", dict(benchmark.extra_info))
