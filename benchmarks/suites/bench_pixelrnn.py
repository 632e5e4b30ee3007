"""The time of a training step of one PixelRNN layer, beside the same layer as a PyTorch loop.

The layer has h = 64 and runs forward and backward on 16 maps of 32x32, in float32 on a CPU;
`benchmarks.tools.gpu` measures a GPU. The loop is the usual PyTorch code: F.conv1d row by row, or
column by column of a skewed map, with ``F.conv2d(x, weight * mask)`` for masked convolutions. Its
maps are contiguous; our layer is measured in both memory formats. The loop also runs through
torch.compile if that takes at most `COMPILE_SECONDS`. All sides take turns. The floor is the time
of the multiply-adds alone, at the speed of a large matrix product.
"""

import copy
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr.bench.passes import on_backend
from pixelsr.bench.timing import median_ratio, seconds
from pixelsr.nn import DiagonalBiLSTMLayer, RowLSTMLayer

from .turns import time_in_turns

CHANNELS, IMAGES, SIZE, ROUNDS = 64, 16, 32, 9
COMPILE_SECONDS = 300
KINDS = {"row": RowLSTMLayer, "diagonal": DiagonalBiLSTMLayer}
TOLERANCE = 1e-3
"""The largest error of an output or gradient against the loop, relative to its largest entry."""

Layer = RowLSTMLayer | DiagonalBiLSTMLayer
Run = Callable[[], list[Tensor]]


def step(inputs: Tensor, sums: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    o, f, i, g = (inputs + sums).chunk(4, 1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def loop_over_rows(gates: Tensor, weight: Tensor, initial_state: Tensor) -> Tensor:
    n, _, _, width = gates.shape
    hidden, cell = initial_state[:, None, :, None].expand(-1, n, -1, width)
    rows = []
    for inputs in gates.unbind(2):
        hidden, cell = step(inputs, F.conv1d(hidden, weight, padding=weight.shape[2] // 2), cell)
        rows.append(hidden)
    return torch.stack(rows, 2)


def loop_over_diagonals(gates: Tensor, weight: Tensor, initial_state: Tensor) -> Tensor:
    n, _, height, width = gates.shape
    rows = [F.pad(row, (r, height - 1 - r)) for r, row in enumerate(gates.unbind(2))]
    hidden, cell = initial_state[:, None, :, None].expand(-1, n, -1, height)
    row, columns = torch.arange(height, device=gates.device), []
    for column, inputs in enumerate(torch.stack(rows, 2).unbind(3)):
        out, after = step(inputs, F.conv1d(F.pad(hidden, (1, 0)), weight), cell)
        if column < height:  # some rows have not begun yet
            began = row <= column
            out, after = torch.where(began, out, hidden), torch.where(began, after, cell)
        hidden, cell = out, after
        columns.append(hidden)
    skewed = torch.stack(columns, 3)
    return torch.stack([skewed[:, :, r, r : r + width] for r in range(height)], 2)


class Loop(nn.Module):
    """A recurrent layer written as loops in PyTorch."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = on_backend(copy.deepcopy(layer), "reference")

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        gates = layer.input_to_state(x)
        if isinstance(layer, RowLSTMLayer):
            h = loop_over_rows(gates, layer.state_to_state, layer.initial_state)
            return layer.out(h, add=x)
        left, right = gates.chunk(2, 1)
        h = loop_over_diagonals(left, layer.state_to_state, layer.initial_state)
        turned = loop_over_diagonals(
            right.flip(3), layer.state_to_state_reverse, layer.initial_state_reverse
        )
        h = h + F.pad(turned.flip(3), (0, 0, 1, 0))[:, :, :-1]
        return layer.out(h, add=x)


def products_of_a_pixel(layer: nn.Module) -> int:
    """Return the live multiply-adds of a forward pass per pixel.

    With one color, only the taps to the right are dead.
    """
    h = CHANNELS
    recurrence, taps = (3 * h * 4 * h, 2) if isinstance(layer, RowLSTMLayer) else (4 * h * 4 * h, 1)
    gates = 4 * h if isinstance(layer, RowLSTMLayer) else 8 * h
    return recurrence + taps * 2 * h * gates + h * 2 * h


def peak_products(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """Return the multiply-adds per second of a large matrix product."""
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    return size**3 / min(seconds(device, torch.mm, a, b) for _ in range(9))


def make_layer(kind: str, device: torch.device, dtype: torch.dtype) -> Layer:
    torch.manual_seed(0)
    layer = KINDS[kind](CHANNELS, colors=1)
    with torch.no_grad():
        layer.initial_state.normal_()
    return layer.to(device, dtype)


def turn(
    module: nn.Module,
    like: Tensor,
    order: torch.memory_format,
    images: int = IMAGES,
    size: int = SIZE,
) -> Run:
    """Return a function that computes the output and all gradients.

    The inputs have the dtype and device of `like`, and are the same for every module.
    """
    generator = torch.Generator().manual_seed(1)
    x, grad = torch.randn(2, images, 2 * CHANNELS, size, size, generator=generator)
    own_x, own_grad = (t.to(like).contiguous(memory_format=order) for t in (x, grad))
    parameters = [own_x.requires_grad_(), *module.parameters()]

    def run() -> list[Tensor]:
        y = module(own_x)
        return [y.detach(), *torch.autograd.grad(y, parameters, own_grad)]

    return run


def compiled_loop(layer: Layer) -> Run:
    loop = torch.compile(Loop(layer), fullgraph=True)
    return turn(loop, layer.initial_state, torch.contiguous_format)


def uncompiled_reason(kind: str, device: torch.device, dtype: torch.dtype) -> str | None:
    """Compile the loop in a child process with a time limit, which fills the compile cache.

    Returns:
        None if it compiled in time, else the reason why not.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.suites.bench_pixelrnn",
        kind,
        device.type,
        str(dtype),
    ]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        _, said = process.communicate(timeout=COMPILE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # also ends the compilers that it started
        process.wait()
        return f"not compiled within {COMPILE_SECONDS} seconds"
    return said.strip().rpartition("\n")[2] if process.returncode else None


def check(name: str, found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        error = (ours - theirs).abs().max() / theirs.abs().max()
        assert error <= TOLERANCE, f"{name} differs by {error:.2g}"


@pytest.mark.parametrize("kind", KINDS)
def test_layer(benchmark, device: torch.device, kind: str) -> None:
    dtype = torch.float32
    layer, info = make_layer(kind, device, dtype), benchmark.extra_info
    last, plain, like = torch.channels_last, torch.contiguous_format, layer.initial_state
    run = {
        "ours": turn(copy.deepcopy(layer).to(memory_format=last), like, last),
        "ours, contiguous": turn(layer, like, plain),
        "loop": turn(Loop(layer), like, plain),
    }
    expected = run["loop"]()
    for name, side in run.items():
        check(name, side(), expected)
    reason = uncompiled_reason(kind, device, dtype)
    if reason is None:
        run["loop, compiled"] = compiled_loop(layer)
        check("loop, compiled", run["loop, compiled"](), expected)
    else:
        info["loop, compiled"] = reason
    times = time_in_turns(benchmark, device, run, ROUNDS)
    pixels = IMAGES * SIZE * SIZE
    # The forward pass and two gradients.
    floor = 3 * pixels * products_of_a_pixel(layer) / peak_products(device, dtype)
    info["floor, milliseconds"] = round(1e3 * floor, 1)
    for name, own in times.items():
        info[f"{name}: milliseconds"] = round(1e3 * statistics.median(own), 1)
        info[f"{name}: fastest and slowest"] = [round(1e3 * end(own), 1) for end in (min, max)]
        info[f"{name}: share of the floor"] = round(floor / statistics.median(own), 2)
        for rival in run.keys() & {"loop", "loop, compiled"} - {name}:
            ratio = median_ratio(times[rival], own)
            info[f"{name}: times faster than the {rival}"] = round(ratio, 2)
    print("\nlayer, forward and backward:", dict(info))


if __name__ == "__main__":
    asked, on, of = sys.argv[1:]
    compiled_loop(make_layer(asked, torch.device(on), getattr(torch, of.removeprefix("torch."))))()
