"""The recurrences of PixelRNN, front by front, with their gradients written out.

A front is all cells that are computed at once: a row, or a diagonal of the picture. One state for
each column (of a Row LSTM) or for each row (of a Diagonal LSTM) is carried from front to front.
Diagonals are strided views of the flattened picture: nothing is skewed, padded or copied for it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Front(NamedTuple):
    """Cells that are computed at once.

    Attributes:
        first, last: their states are those from `first` up to, not including, `last`.
        cells: where they lie in the flattened picture, in the same order.
    """

    first: int
    last: int
    cells: slice


class Scan(NamedTuple):
    """A recurrence over a picture.

    Attributes:
        fronts: in the order in which they are computed.
        states: how many are carried.
        border: how many zeros stand before the first state, for the taps that reach beyond it. Tap
            k of a cell with state p reads state ``p + k - border``.
        neighbours: of a map and what stands before its first cells, ``[h]``: what each tap reads,
            at every cell.
        predecessor: likewise, what a cell state is carried on from.
    """

    fronts: list[Front]
    states: int
    border: int
    neighbours: Callable[[Tensor, Tensor], list[Tensor]]
    predecessor: Callable[[Tensor, Tensor], Tensor]


def rows(height: int, width: int, taps: int) -> Scan:
    """From the top down; each cell reads `taps` cells of the row above, centred."""
    border = taps // 2
    fronts = [Front(0, width, slice(r * width, (r + 1) * width)) for r in range(height)]

    def above(x: Tensor, initial: Tensor) -> Tensor:
        first = initial.view(1, -1, 1, 1).expand(len(x), -1, 1, width)
        return torch.cat((first, x), 2)[:, :, :height]

    def neighbours(x: Tensor, initial: Tensor) -> list[Tensor]:
        padded = F.pad(above(x, initial), (border, border))
        return [padded[..., tap : tap + width] for tap in range(taps)]

    return Scan(fronts, width, border, neighbours, above)


def diagonals(height: int, width: int, reverse: bool) -> Scan:
    """From the top left, or with `reverse` from the top right; a cell reads above and beside it."""

    def front(number: int) -> Front:
        first, last = max(0, number - width + 1), min(number + 1, height)
        column = number - first
        start = first * width + (width - 1 - column if reverse else column)
        step = width + 1 if reverse else max(width - 1, 1)  # of one column, each front is one cell
        return Front(first, last, slice(start, start + (last - first - 1) * step + 1, step))

    def beside(x: Tensor, initial: Tensor) -> Tensor:
        first = initial.view(1, -1, 1, 1).expand(len(x), -1, height, 1)
        return torch.cat((x[..., 1:], first) if reverse else (first, x[..., :-1]), 3)

    def neighbours(x: Tensor, initial: Tensor) -> list[Tensor]:
        return [F.pad(x, (0, 0, 1, 0))[:, :, :-1], beside(x, initial)]

    fronts = [front(number) for number in range(height + width - 1)]
    return Scan(fronts, height, 1, neighbours, beside)


class Kind(NamedTuple):
    """A recurrence whose fronts are walked by a kernel of its own.

    Attributes:
        diagonal: a Diagonal LSTM; otherwise a Row LSTM.
        reverse: from right to left.
    """

    diagonal: bool = False
    reverse: bool = False


def windows(kind: Kind, hidden: Tensor, initial: Tensor, taps: int) -> Tensor:
    """What every cell reads, ``[N, H, W, taps, h]``, of a map ``[N, H, W, h]``."""
    n, height, width, channels = hidden.shape
    read = hidden.new_empty(n, height, width, taps, channels)
    if kind.diagonal:
        above, beside = read.unbind(3)
        above[:, 0] = 0
        above[:, 1:] = hidden[:, :-1]
        if kind.reverse:
            beside[:, :, -1] = initial
            beside[:, :, :-1] = hidden[:, :, 1:]
        else:
            beside[:, :, 0] = initial
            beside[:, :, 1:] = hidden[:, :, :-1]
        return read
    for tap, part in enumerate(read.unbind(3)):
        shift = tap - taps // 2
        inside = _inside(shift, width)
        part[:, :, : inside.start] = 0
        part[:, :, inside.stop :] = 0
        if inside.start < inside.stop:
            part[:, 0, inside] = initial
            part[:, 1:, inside] = hidden[:, :-1, inside.start + shift : inside.stop + shift]
    return read


def _inside(shift: int, width: int) -> slice:
    """The columns whose neighbour, `shift` to the right, is in the picture; none for the rest."""
    first = min(max(-shift, 0), width)
    return slice(first, max(first, min(width, width - shift)))


def of_initial_hidden(kind: Kind, grad_gates: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the initial hidden state, ``[h]``, by the cells that read it."""
    if kind.diagonal:
        edge = grad_gates[..., -1 if kind.reverse else 0]
        return weight[:, :, 1].T @ edge.sum((0, 2))
    taps, width = weight.shape[2], grad_gates.shape[3]
    first = grad_gates[:, :, 0].sum(0)  # [4 h, W]
    sums = [first[:, _inside(tap - taps // 2, width)].sum(1) for tap in range(taps)]
    return (weight * torch.stack(sums, 1)[:, None]).sum((0, 2))


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums and of the cell state."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def scan_forward(
    scan: Scan,
    gates: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor | None,
    activations: Tensor | None,
) -> None:
    """Fill `hidden` and, where they are given, `cell` and `activations`.

    Args:
        gates: what the inputs add to the four gates, o, f, i, g, ``[N, 4 h, H, W]``.
        weight: ``[4 h, h, taps]``.
        initial: hidden and cell state before the first cells, ``[2, h]``.
        hidden: ``[N, h, H, W]``, of the gates' dtype.
        cell: ``[N, h, H, W]``, of the accumulator's.
        activations: the gates after sigmoid and tanh, as `gates`.
    """
    n, exact = len(gates), accumulator(gates.dtype)
    matrix = _matrix(weight, exact)
    state, current = _carried(scan, n, matrix)
    state[..., scan.border : scan.border + scan.states] = initial[0].to(exact)[:, None, None]
    current[:] = initial[1].to(exact)[:, None, None]
    inputs, out_cells = gates.flatten(2), _cells(hidden)
    kept_cell = None if cell is None else _cells(cell)
    kept_gates = None if activations is None else _cells(activations)
    for first, last, cells in scan.fronts:
        read = [state[..., first + tap : last + tap] for tap in range(weight.shape[2])]
        sums = (matrix @ torch.cat(read).flatten(1)).view(len(matrix), n, last - first)
        sums += _at(inputs, cells)
        sums[: 3 * len(state)].sigmoid_()
        sums[3 * len(state) :].tanh_()
        o, f, i, g = sums.chunk(4)
        now = current[..., first:last]
        now.copy_(f * now + i * g)
        out = _at(out_cells, cells)
        out.copy_(o * now.tanh())
        state[..., scan.border + first : scan.border + last] = out  # as rounded
        if kept_cell is not None:
            _at(kept_cell, cells).copy_(now)
        if kept_gates is not None:
            _at(kept_gates, cells).copy_(sums)


def scan_backward(
    scan: Scan,
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
    grad_gates: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fill `grad_gates`; the gradients of the weight and of the initial state.

    The fronts are walked backwards with the transposed product alone. The gradient of the weight is
    made afterwards, of all cells at once.
    """
    n, exact = len(grad), accumulator(grad.dtype)
    matrix = _matrix(weight, exact)
    of_state, of_cell = _carried(scan, n, matrix)
    predecessor = scan.predecessor(cell, initial[1].to(exact)).flatten(2)
    inputs = [x.flatten(2) for x in (grad, cell, activations)]
    out_cells = _cells(grad_gates)
    for first, last, cells in reversed(scan.fronts):
        of_out, now, gates = (_at(x, cells).to(exact) for x in inputs)
        o, f, i, g = gates.chunk(4)
        own = of_state[..., scan.border + first : scan.border + last]
        of_hidden = own + of_out
        own.zero_()  # what stood there before this front was written has its readers elsewhere
        tanh = now.tanh()
        of_now = of_cell[..., first:last] + of_hidden * o * (1 - tanh * tanh)
        of_cell[..., first:last] = of_now * f
        of_sums = torch.cat(
            (
                of_hidden * tanh * o * (1 - o),
                of_now * _at(predecessor, cells) * f * (1 - f),
                of_now * g * i * (1 - i),
                of_now * i * (1 - g * g),
            )
        )
        _at(out_cells, cells).copy_(of_sums)
        of_read = (matrix.T @ of_sums.flatten(1)).view(weight.shape[2], -1, n, last - first)
        for tap, part in enumerate(of_read):
            of_state[..., first + tap : last + tap] += part
    of_state = of_state[..., scan.border : scan.border + scan.states]
    of_initial = torch.stack((of_state.sum((1, 2)), of_cell.sum((1, 2))))
    rows_of_gates = _by_channel(grad_gates, exact)
    read = scan.neighbours(hidden, initial[0].to(hidden.dtype))
    of_weight = torch.stack([rows_of_gates @ _by_channel(x, exact).T for x in read], 2)
    return of_weight.to(weight.dtype), of_initial.to(initial.dtype)


def _carried(scan: Scan, n: int, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Zeros for what is carried from front to front: hidden, with its border, and cell."""
    channels = len(matrix) // 4
    padded = scan.states + matrix.shape[1] // channels - 1
    return matrix.new_zeros(channels, n, padded), matrix.new_zeros(channels, n, scan.states)


def _matrix(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """``[4 h, taps h]``: the taps one after the other."""
    return weight.transpose(1, 2).flatten(1).to(dtype)


def _cells(x: Tensor) -> Tensor:
    """``[N, channels, H W]``, to be written to: a view, or an error."""
    return x.view(*x.shape[:2], -1)


def _at(x: Tensor, cells: slice) -> Tensor:
    """The cells of a front of ``[N, channels, H W]``, as ``[channels, N, cells]``."""
    return x[..., cells].transpose(0, 1)


def _by_channel(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``[channels, N H W]``."""
    return x.transpose(0, 1).flatten(1).to(dtype)
