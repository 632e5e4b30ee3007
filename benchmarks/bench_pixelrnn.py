"""A step of training of one layer of a PixelRNN, beside the same layer as a loop in PyTorch.

h = 64, 16 maps of 32x32, float32, forward and backward. The loop is what one writes: F.conv1d row
by row, or column by column of a skewed map; masked convolutions are ``F.conv2d(x, weight * mask)``.
Its maps are contiguous; ours is measured in both memory formats. All take turns. How long the
multiply-adds alone would take, at the speed of a large matrix product, is the floor.
"""

import copy
import statistics
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr.benchmark.clock import median_ratio, seconds
from pixelsr.benchmark.passes import on_backend
from pixelsr.nn import DiagonalBiLSTMLayer, RowLSTMLayer

CHANNELS, IMAGES, SIZE, ROUNDS = 64, 16, 32, 9
TOLERANCE = 1e-3
"""Of outputs and gradients, relative to the largest."""


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
        if column < height:  # some rows have not begun
            began = row <= column
            out, after = torch.where(began, out, hidden), torch.where(began, after, cell)
        hidden, cell = out, after
        columns.append(hidden)
    skewed = torch.stack(columns, 3)
    return torch.stack([skewed[:, :, r, r : r + width] for r in range(height)], 2)


class Loop(nn.Module):
    """A layer whose recurrences are loops."""

    def __init__(self, layer: RowLSTMLayer | DiagonalBiLSTMLayer) -> None:
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
    """Live multiply-adds of a forward pass; with one colour only taps to the right are dead."""
    h = CHANNELS
    recurrence, taps = (3 * h * 4 * h, 2) if isinstance(layer, RowLSTMLayer) else (4 * h * 4 * h, 1)
    gates = 4 * h if isinstance(layer, RowLSTMLayer) else 8 * h
    return recurrence + taps * 2 * h * gates + h * 2 * h


def peak_products(size: int = 2048) -> float:
    """Multiply-adds a second of a large matrix product."""
    a, b = torch.randn(2, size, size)
    return size**3 / min(seconds(a.device, torch.mm, a, b) for _ in range(9))


@pytest.mark.parametrize("kind", [RowLSTMLayer, DiagonalBiLSTMLayer], ids=["row", "diagonal"])
def test_layer(benchmark, kind: type[RowLSTMLayer] | type[DiagonalBiLSTMLayer]) -> None:
    torch.manual_seed(0)
    device = torch.device("cpu")
    layer = kind(CHANNELS, colours=1)
    with torch.no_grad():
        layer.initial_state.normal_()
    loop = Loop(layer)
    x = torch.randn(IMAGES, 2 * CHANNELS, SIZE, SIZE)
    grad = torch.randn_like(x)

    def turn(module: nn.Module, order: torch.memory_format) -> Callable[[], list[Tensor]]:
        own_x = x.contiguous(memory_format=order).requires_grad_()
        own_grad = grad.contiguous(memory_format=order)
        parameters = [own_x, *module.parameters()]

        def run() -> list[Tensor]:
            y = module(own_x)
            return [y.detach(), *torch.autograd.grad(y, parameters, own_grad)]

        return run

    last = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    run = {
        "ours": turn(last, torch.channels_last),
        "ours, contiguous": turn(layer, torch.contiguous_format),
        "loop": turn(loop, torch.contiguous_format),
    }
    results = {name: side() for name, side in run.items()}
    for name, found in results.items():
        for ours, theirs in zip(found, results["loop"], strict=True):
            error = (ours - theirs).abs().max() / theirs.abs().max()
            assert error <= TOLERANCE, f"{name} differs"
    times: dict[str, list[float]] = {name: [] for name in run}

    def measure_once() -> None:
        for name, side in run.items():
            times[name].append(seconds(device, side))

    benchmark.pedantic(measure_once, rounds=ROUNDS, warmup_rounds=1)
    times = {name: own[-ROUNDS:] for name, own in times.items()}
    pixels = IMAGES * SIZE * SIZE
    floor = 3 * pixels * products_of_a_pixel(layer) / peak_products()  # and two gradients
    told = benchmark.extra_info
    told["floor, milliseconds"] = round(1e3 * floor, 1)
    for name, own in times.items():
        told[f"{name}: milliseconds"] = round(1e3 * statistics.median(own), 1)
        told[f"{name}: fastest and slowest"] = [round(1e3 * end(own), 1) for end in (min, max)]
        told[f"{name}: share of the floor"] = round(floor / statistics.median(own), 2)
        if name != "loop":
            told[f"{name}: times faster than the loop"] = round(median_ratio(times["loop"], own), 2)
    print("\nlayer, forward and backward:", dict(told))
