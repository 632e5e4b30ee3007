"""The time of each backend's masked convolution, beside the dense one: forward and gradients."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.suites.bench_masked_conv import SHAPES, dense
from pixelsr import functional

from . import REHEARSES, report
from .setting import DEVICE, median_seconds, name_of

IMAGES, SIDE, ROUNDS, REPEATS = (1, 4, 2, 1) if REHEARSES else (128, 32, 10, 10)
LAYERS = [SHAPES[2]] if REHEARSES else SHAPES
DTYPES = [torch.float32] if REHEARSES else [torch.bfloat16, torch.float32]
BACKENDS = ("triton", "cropped")
FORWARD, TO_INPUT, TO_WEIGHT = "forward", "gradient to input", "gradient to weight"

Work = Callable[[], Tensor]


def run() -> None:
    for dtype in DTYPES:
        for layer in LAYERS:
            for part in (FORWARD, TO_INPUT, TO_WEIGHT):
                compare(layer, part, dtype)


def compare(layer: tuple[int, int, int, str], part: str, dtype: torch.dtype) -> None:
    """Time one part of a layer on every side, in turns, and report the distances from dense."""
    sides = works(layer, part, dtype)
    results = {name: work() for name, work in sides.items()}  # this also compiles every side
    exact = results["dense"].double()
    apart = {name: float((y.double() - exact).norm() / exact.norm()) for name, y in results.items()}
    repeated = {name: partial(_repeat, work) for name, work in sides.items()}
    medians = {name: own / REPEATS for name, own in median_seconds(repeated, ROUNDS).items()}
    own = {"layer": list(layer), "dtype": name_of(dtype)}
    report(what=part, **own, seconds=medians, from_dense=apart)


def works(layer: tuple[int, int, int, str], part: str, dtype: torch.dtype) -> dict[str, Work]:
    """Return the work of each side for one part of a layer."""
    in_channels, out_channels, size, mask_type = layer
    torch.manual_seed(0)
    x, grad = (_maps(channels, dtype) for channels in (in_channels, out_channels))
    shape = out_channels, in_channels, size, size
    weight = (torch.randn(shape, device=DEVICE) / 30).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    bias = torch.randn(out_channels, device=DEVICE).to(dtype)
    sides: dict[str, Work] = {"dense": partial(dense, x, weight, bias, mask_type)}
    for backend in BACKENDS:
        call = partial(functional.masked_conv2d, x, weight, bias, mask_type=mask_type)
        sides[backend] = partial(call, backend=backend)
    if part == FORWARD:
        return sides
    to = (x if part == TO_INPUT else weight).requires_grad_()
    return {name: _backward(forward(), to, grad) for name, forward in sides.items()}


def _maps(channels: int, dtype: torch.dtype) -> Tensor:
    made = torch.randn(IMAGES, channels, SIDE, SIDE, device=DEVICE)
    return made.to(dtype).contiguous(memory_format=torch.channels_last)


def _backward(y: Tensor, to: Tensor, grad: Tensor) -> Work:
    return lambda: torch.autograd.grad(y, to, grad, retain_graph=True)[0]


def _repeat(work: Work) -> None:
    for _ in range(REPEATS):
        work()
