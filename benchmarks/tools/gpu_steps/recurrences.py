"""The time of a training step of one recurrent layer, beside an eager PyTorch loop."""

import copy

import torch

from benchmarks.suites.bench_pixelrnn import KINDS, Loop, make_layer, products_of_a_pixel, turn

from . import REHEARSES, report
from .setting import DEVICE, median_seconds, name_of

IMAGES, SIZE, ROUNDS = (1, 4, 1) if REHEARSES else (16, 32, 9)
DTYPES = [torch.float32] if REHEARSES else [torch.bfloat16, torch.float32]


def run() -> None:
    for dtype in DTYPES:
        for kind in KINDS:
            measure(kind, dtype)


def measure(kind: str, dtype: torch.dtype) -> None:
    """Time a layer in both memory formats and the loop, in turns."""
    layer = make_layer(kind, DEVICE, dtype)
    last, like = copy.deepcopy(layer).to(memory_format=torch.channels_last), layer.initial_state
    shape = IMAGES, SIZE
    sides = {
        "ours": turn(last, like, torch.channels_last, *shape),
        "ours, contiguous": turn(layer, like, torch.contiguous_format, *shape),
        "loop": turn(Loop(layer), like, torch.contiguous_format, *shape),
    }
    results = {name: side()[0] for name, side in sides.items()}
    exact = results["loop"].double()
    apart = {name: float((y.double() - exact).norm() / exact.norm()) for name, y in results.items()}
    products = 3 * IMAGES * SIZE**2 * products_of_a_pixel(layer)  # forward and two gradients
    report(
        what="step of a layer",
        kind=kind,
        dtype=name_of(dtype),
        multiply_adds=products,
        seconds=median_seconds(sides, ROUNDS),
        from_the_loop=apart,
    )
