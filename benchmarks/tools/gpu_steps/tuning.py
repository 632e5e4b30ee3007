"""The time of other block sizes for convolutions and recurrences on this machine's GPU.

For each kernel and layer of the paper-size network, the results compare the shipped configuration
of `kernels/configs.py` with others, in bfloat16. Use the table to edit that file.
"""

import statistics
from collections.abc import Callable, Iterator

import torch
import triton
from torch import Tensor

from pixelsr.bench.timing import seconds
from pixelsr.kernels import configs
from pixelsr.kernels.configs import HALF, Config

from . import REHEARSES, report
from .setting import DEVICE

OURS = torch.ops.pixelsr
LAYERS = [(64, 128, 5, "V"), (128, 128, 3, "B"), (64, 1024, 1, "B"), (1024, 768, 1, "B")]
LAYERS = [(16, 16, 1, "B")] if REHEARSES else LAYERS
RECURRENCES = [("row_lstm", 3, ()), ("diagonal_lstm", 2, (False,))]
RECURRENCES = [] if REHEARSES else RECURRENCES
CHANNELS, SIDE = 128, 2 if REHEARSES else 32
IMAGES, ROUNDS, REPEATS = (1, 1, 1) if REHEARSES else (128, 10, 10)
CANDIDATES = [
    Config(pixels, out, inputs, warps, stages, "")
    for pixels, out, inputs, warps, stages in (
        (64, 64, 64, 4, 4),
        (64, 128, 64, 4, 4),
        (128, 64, 64, 4, 4),
        (128, 64, 64, 8, 4),
        (128, 128, 32, 8, 5),
        (128, 128, 64, 4, 4),
        (128, 128, 64, 8, 3),
        (128, 128, 64, 8, 4),
        (256, 64, 64, 8, 4),
        (128, 256, 64, 8, 3),
    )[: 1 if REHEARSES else None]
]
"""The configurations tried beside the shipped ones; each takes 1 to 2 s to compile per kernel."""


def works(
    device: torch.device, layer: tuple[int, int, int, str]
) -> Iterator[tuple[str, dict[tuple[str, str], Config], Callable[[], object]]]:
    """Yield each kernel's name, the table of its configuration, and a launch."""
    in_channels, out_channels, size, kind = layer

    def normal(*shape: int) -> Tensor:
        made = torch.randn(shape, device=device, dtype=torch.bfloat16)
        return made.to(memory_format=torch.channels_last)

    x, grad = normal(IMAGES, in_channels, SIDE, SIDE), normal(IMAGES, out_channels, SIDE, SIDE)
    weight = normal(out_channels, in_channels, size, size)
    forward = (x, weight, None, None, kind)
    yield "forward", configs.PRODUCTS, lambda: OURS.masked_conv2d_triton(*forward)
    yield "forward, gated", configs.GATED, lambda: OURS.masked_conv2d_gate_triton(*forward)
    yield (
        "gradient to the input",
        configs.PRODUCTS,
        lambda: OURS.masked_conv2d_grad_input_triton(grad, weight, kind),
    )
    yield (
        "gradient to the weight",
        configs.GRAD_WEIGHT,
        lambda: OURS.masked_conv2d_grad_weight_triton(x, grad, [size, size], kind),
    )


def recurrences(
    device: torch.device, name: str, taps: int, options: tuple[bool, ...]
) -> Iterator[tuple[str, dict[tuple[str, str], Config], Callable[[], object]]]:
    """Yield the same as `works` for a recurrence of the paper's 128 channels, in both ways."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=torch.bfloat16)

    gates, grad = (
        normal(IMAGES, parts * CHANNELS, SIDE, SIDE).to(memory_format=torch.channels_last)
        for parts in (4, 1)
    )
    weight = normal(4 * CHANNELS, CHANNELS, taps) / (CHANNELS * taps) ** 0.5
    initial = normal(2, CHANNELS)
    operator, backward = getattr(OURS, name), getattr(OURS, f"{name}_grad")
    states = operator(gates, weight, initial, *options, True, "triton")
    shipped = configs.ALONE[HALF]
    for way, most in (("alone", 2**40), ("wavefront", 0)):
        configs.ALONE[HALF] = most
        try:
            yield (
                f"forward, {way}",
                configs.LSTM,
                lambda: operator(gates, weight, initial, *options, True, "triton"),
            )
            yield (
                f"gradient, {way}",
                configs.LSTM_GRAD,
                lambda: backward(grad, weight, initial, *states, *options, "triton"),
            )
        finally:
            configs.ALONE[HALF] = shipped


def milliseconds(device: torch.device, launch: Callable[[], object]) -> float | None:
    """Return the median time, or None if the kernel cannot be compiled or launched."""

    def repeat() -> None:
        for _ in range(REPEATS):
            launch()

    try:
        launch()
    except (triton.errors.TritonError, RuntimeError) as error:
        print(f"not possible: {str(error).splitlines()[0]}")
        return None
    return 1e3 * statistics.median(seconds(device, repeat) for _ in range(ROUNDS)) / REPEATS


def tune(
    device: torch.device, table: dict[tuple[str, str], Config], launch: Callable[[], object]
) -> list[tuple[float, Config]]:
    """Return candidates with their milliseconds, best first; the shipped one has a reason."""
    shipped = dict(table)
    used = [config for (precision, _), config in shipped.items() if precision == HALF]
    found = []
    try:
        for config in [*used, *CANDIDATES]:
            table.update({key: config for key in shipped if key[0] == HALF})
            taken = milliseconds(device, launch)
            found += [] if taken is None else [(taken, config)]
    finally:
        table.update(shipped)
    return sorted(found, key=lambda pair: pair[0])


def run() -> None:
    layers = [(list(layer), works(DEVICE, layer)) for layer in LAYERS]
    layers += [(kind[0], recurrences(DEVICE, *kind)) for kind in RECURRENCES]
    for layer, kernels in layers:
        for kernel, table, launch in kernels:
            best = [
                {"milliseconds": taken, **vars(config)}
                for taken, config in tune(DEVICE, table, launch)[:5]
            ]
            report(what="tuning", layer=layer, kernel=kernel, best=best)
