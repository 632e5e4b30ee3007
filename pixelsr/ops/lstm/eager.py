"""The recurrences of PixelRNN in PyTorch, wavefront by wavefront, with explicit gradients.

A wavefront is the set of cells that are computed at once: a row or a diagonal of the image. One
state for each column (of a Row LSTM) or row (of a Diagonal LSTM) is carried from wavefront to
wavefront. Diagonals are strided views of the flattened image, so nothing is skewed, padded or
copied.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..dtypes import accumulator
from .states import Kind, States

_LEAST_CELLS, _MOST_PRODUCTS = 64, 32  # bounds for the partial sums of a weight gradient


class Wavefront(NamedTuple):
    """The cells that are computed at once.

    Attributes:
        first, last: the range of the cells' states, without `last`.
        cells: the cells' positions in the flattened image, in the same order.
    """

    first: int
    last: int
    cells: slice


def wavefronts(kind: Kind, height: int, width: int) -> list[Wavefront]:
    """Return the wavefronts in order of computation.

    They are rows from the top down, or diagonals from the top left, in reverse from the top right.
    """
    if not kind.diagonal:
        return [Wavefront(0, width, slice(r * width, (r + 1) * width)) for r in range(height)]
    step = width + 1 if kind.reverse else max(width - 1, 1)  # a slice of one cell needs a step >= 1

    def diagonal(number: int) -> Wavefront:
        first, last = max(0, number - width + 1), min(number + 1, height)
        column = number - first
        start = first * width + (width - 1 - column if kind.reverse else column)
        return Wavefront(first, last, slice(start, start + (last - first - 1) * step + 1, step))

    return [diagonal(number) for number in range(height + width - 1)]


def windows(kind: Kind, hidden: Tensor, initial: Tensor, taps: int) -> Tensor:
    """Return what every cell reads of a map ``[N, H, W, h]``, as ``[N, H, W, taps, h]``."""
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
    """Return the columns whose neighbor `shift` to the right is in the image; may be empty."""
    first = min(max(-shift, 0), width)
    return slice(first, max(first, min(width, width - shift)))


def from_initial_hidden(kind: Kind, weight: Tensor, initial: Tensor, width: int) -> Tensor:
    """Return the initial hidden state's contribution to the gates of the cells that read it.

    For a Row LSTM these are the cells of the first row, ``[W, 4 h]``; for a Diagonal LSTM the
    contribution ``[1, 4 h]`` is the same for every cell at the edge. The dtype is the
    accumulator's.
    """
    exact = accumulator(weight.dtype)
    by_tap = (weight.to(exact) * initial.to(exact)[:, None]).sum(1).T  # [taps, 4 h]
    if kind.diagonal:
        return by_tap[1:].contiguous()
    sums = by_tap.new_zeros(width, by_tap.shape[1])
    for tap, added in enumerate(by_tap):
        sums[_inside(tap - len(by_tap) // 2, width)] += added
    return sums


def of_initial_hidden(kind: Kind, grad_gates: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of the initial hidden state, ``[h]``, from the cells that read it."""
    exact = accumulator(weight.dtype)
    weight = weight.to(exact)
    if kind.diagonal:
        edge = grad_gates[..., -1 if kind.reverse else 0]
        return weight[:, :, 1].T @ edge.sum((0, 2), dtype=exact)
    taps, width = weight.shape[2], grad_gates.shape[3]
    first = grad_gates[:, :, 0].sum(0, dtype=exact)  # [4 h, W]
    sums = [first[:, _inside(tap - taps // 2, width)].sum(1) for tap in range(taps)]
    return (weight * torch.stack(sums, 1)[:, None]).sum((0, 2))


def of_weight(kind: Kind, grad_gates: Tensor, hidden: Tensor, initial: Tensor, taps: int) -> Tensor:
    """Return the gradient of the weight, ``[4 h, h, taps]``, in the dtype of the cells.

    It is added up from partial sums over groups of cells: one sum over all would be less exact.
    """
    by_cell = grad_gates.permute(0, 2, 3, 1).flatten(0, 2)
    read = windows(kind, hidden.permute(0, 2, 3, 1), initial, taps).flatten(3).flatten(0, 2)
    some = max(_LEAST_CELLS, -(-len(by_cell) // _MOST_PRODUCTS))
    pairs = zip(by_cell.split(some), read.split(some), strict=True)
    total = sum(gates.T @ states for gates, states in pairs)
    assert isinstance(total, Tensor)  # there is a cell
    return total.unflatten(1, (taps, -1)).transpose(1, 2).contiguous()


def scan_forward(
    kind: Kind, gates: Tensor, weight: Tensor, initial: Tensor, states: States
) -> None:
    """Fill `states`, except for empty tensors.

    Args:
        gates: the inputs' contribution to the four gates o, f, i, g, ``[N, 4 h, H, W]``.
        weight: ``[4 h, h, taps]``.
        initial: the hidden and cell state before the first cells, ``[2, h]``.
    """
    n, _, height, width = gates.shape
    exact, taps = accumulator(gates.dtype), weight.shape[2]
    matrix, border = _matrix(weight, exact), kind.border(taps)
    state, current = _carried(matrix, n, kind.states(height, width), taps)
    state[..., border : border + current.shape[2]] = initial[0].to(exact)[:, None, None]
    current[:] = initial[1].to(exact)[:, None, None]
    inputs, out_cells = gates.flatten(2), _cells(states.hidden)
    keep = states.cell.numel() > 0
    kept_cell, kept_gates = (_cells(x) if keep else x for x in states[1:])
    for first, last, cells in wavefronts(kind, height, width):
        read = [state[..., first + tap : last + tap] for tap in range(taps)]
        sums = (matrix @ torch.cat(read).flatten(1)).view(len(matrix), n, last - first)
        sums += _at(inputs, cells)
        sums[: 3 * len(state)].sigmoid_()
        sums[3 * len(state) :].tanh_()
        o, f, i, g = sums.chunk(4)
        now = current[..., first:last]
        now.copy_(f * now + i * g)
        out = _at(out_cells, cells)
        out.copy_(o * now.tanh())
        state[..., border + first : border + last] = out  # rounded to the dtype of the output
        if keep:
            _at(kept_cell, cells).copy_(now)
            _at(kept_gates, cells).copy_(sums)


def scan_backward(
    kind: Kind, grad: Tensor, weight: Tensor, initial: Tensor, states: States, grad_gates: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill `grad_gates` and return the gradients of the weight and of the initial state.

    The backward pass over the wavefronts multiplies by the transposed weight only. The gradient of
    the weight is computed afterwards, from all cells at once.
    """
    n, _, height, width = grad.shape
    exact, taps = accumulator(grad.dtype), weight.shape[2]
    matrix, border = _matrix(weight, exact), kind.border(taps)
    of_state, of_cell = _carried(matrix, n, kind.states(height, width), taps)
    before = predecessors(kind, states.cell, initial[1].to(exact)).flatten(2)
    inputs = [x.flatten(2) for x in (grad, states.cell, states.activations)]
    out_cells = _cells(grad_gates)
    for first, last, cells in reversed(wavefronts(kind, height, width)):
        of_out, now, gates = (_at(x, cells).to(exact) for x in inputs)
        o, f, i, g = gates.chunk(4)
        own = of_state[..., border + first : border + last]
        of_hidden = own + of_out
        own.zero_()  # now collects the gradient of the predecessor's hidden state
        tanh = now.tanh()
        of_now = of_cell[..., first:last] + of_hidden * o * (1 - tanh * tanh)
        of_cell[..., first:last] = of_now * f
        of_sums = torch.cat(
            (
                of_hidden * tanh * o * (1 - o),
                of_now * _at(before, cells) * f * (1 - f),
                of_now * g * i * (1 - i),
                of_now * i * (1 - g * g),
            )
        )
        _at(out_cells, cells).copy_(of_sums)
        of_read = (matrix.T @ of_sums.flatten(1)).view(taps, -1, n, last - first)
        for tap, part in enumerate(of_read):
            of_state[..., first + tap : last + tap] += part
    of_state = of_state[..., border : border + of_cell.shape[2]]
    of_initial = torch.stack((of_state.sum((1, 2)), of_cell.sum((1, 2))))
    hidden, first_hidden = states.hidden.to(exact), initial[0].to(exact)
    of_weights = of_weight(kind, grad_gates.to(exact), hidden, first_hidden, taps)
    return of_weights.to(weight.dtype), of_initial.to(initial.dtype)


def predecessors(kind: Kind, cell: Tensor, initial: Tensor) -> Tensor:
    """Return the cell state of each cell's predecessor, ``[N, h, H, W]``."""
    taps = 2 if kind.diagonal else 1  # the minimum; the last tap reads the predecessor
    read = windows(kind, cell.permute(0, 2, 3, 1), initial, taps)
    return read[:, :, :, -1].permute(0, 3, 1, 2)


def _carried(matrix: Tensor, n: int, states: int, taps: int) -> tuple[Tensor, Tensor]:
    """Return zeros for the hidden and cell states that are carried from wavefront to wavefront.

    The hidden states have a border, so that tap k of a cell with state p reads index ``p + k``.
    """
    channels = len(matrix) // 4
    padded = matrix.new_zeros(channels, n, states + taps - 1)
    return padded, matrix.new_zeros(channels, n, states)


def _matrix(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight as a matrix ``[4 h, taps h]``, one tap after another."""
    return weight.transpose(1, 2).flatten(1).to(dtype)


def _cells(x: Tensor) -> Tensor:
    """View `x` as ``[N, channels, H W]`` for writing; raise RuntimeError if it needs a copy."""
    return x.view(*x.shape[:2], -1)


def _at(x: Tensor, cells: slice) -> Tensor:
    """View the cells of a wavefront of ``[N, channels, H W]`` as ``[channels, N, cells]``."""
    return x[..., cells].transpose(0, 1)
