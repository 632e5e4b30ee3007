"""The reference implementation of PixelRNN's recurrences in plain PyTorch, step by step."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..dtypes import accumulator


def row_lstm_ref(gates: Tensor, weight: Tensor, initial_state: Tensor) -> Tensor:
    """Run a Row LSTM row by row, with an ``F.conv1d`` of the row above.

    The arguments are the same as for `functional.row_lstm`.
    """
    n, _, height, width = gates.shape
    if not gates.numel():
        return _nothing(gates)
    weight, (hidden, cell) = _exact(weight), _start(initial_state, n, width)
    rows = []
    for row in range(height):
        sums = F.conv1d(hidden, weight, padding=weight.shape[2] // 2)
        out, cell = _step(gates[:, :, row], sums, cell)
        rows.append(out.unsqueeze(2))
        hidden = _exact(out)
    return torch.cat(rows, 2)


def diagonal_lstm_ref(
    gates: Tensor, weight: Tensor, initial_state: Tensor, reverse: bool = False
) -> Tensor:
    """Run a Diagonal LSTM column by column of the skewed map, in which row r is shifted right by r.

    An ``F.conv1d`` of the previous column, padded at the top, reads the same row and the row above.
    A row keeps its initial state until it begins. The arguments are the same as for
    `functional.diagonal_lstm`.
    """
    if reverse:
        return diagonal_lstm_ref(gates.flip(3), weight, initial_state).flip(3)
    n, _, height, width = gates.shape
    if not gates.numel():
        return _nothing(gates)
    rows = [F.pad(gates[:, :, r], (r, height - 1 - r)) for r in range(height)]
    skewed = torch.stack(rows, 2)  # [N, 4 h, H, W + H - 1]
    weight, (hidden, cell) = _exact(weight), _start(initial_state, n, height)
    row, columns = torch.arange(height, device=gates.device), []
    for column, inputs in enumerate(skewed.unbind(3)):
        out, after = _step(inputs, F.conv1d(F.pad(hidden, (1, 0)), weight), cell)
        began = row <= column
        hidden = torch.where(began, _exact(out), hidden)
        cell = torch.where(began, after, cell)
        columns.append(out)
    out = torch.stack(columns, 3)
    return torch.stack([out[:, :, r, r : r + width] for r in range(height)], 2)


def _nothing(gates: Tensor) -> Tensor:
    """Return the hidden states of an empty map, which convolutions do not accept."""
    return gates[:, : gates.shape[1] // 4]


def _start(initial_state: Tensor, n: int, positions: int) -> tuple[Tensor, Tensor]:
    """Return the hidden and cell state before the first step, ``[N, h, positions]`` each."""
    hidden, cell = _exact(initial_state)[:, None, :, None].expand(-1, n, -1, positions)
    return hidden, cell


def _step(inputs: Tensor, sums: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the new hidden state, in the dtype of the inputs, and the new cell state."""
    o, f, i, g = (_exact(inputs) + sums).chunk(4, 1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return (torch.sigmoid(o) * torch.tanh(cell)).to(inputs.dtype), cell


def _exact(x: Tensor) -> Tensor:
    return x.to(accumulator(x.dtype))
