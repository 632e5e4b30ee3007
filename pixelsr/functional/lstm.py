"""The recurrences of PixelRNN (1601.06759, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelsr.ops.backends import LSTM, choose
from pixelsr.ops.lstm.reference import diagonal_lstm_ref, row_lstm_ref

from .autocast import autocast
from .overrides import overridable


@overridable
def row_lstm(
    gates: Tensor, weight: Tensor, initial_state: Tensor, *, backend: str = "auto"
) -> Tensor:
    r"""Run the Row LSTM (1601.06759, 3.1) from the top row down, all columns of a row at once.

    With ``h, c`` of the row above, or `initial_state` for the first row::

        o, f, i, g = (gates[:, :, row] + F.conv1d(h, weight, padding=taps // 2)).chunk(4, 1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)

    `weight` needs no mask, as the whole row above is past. The layer that computes `gates`
    determines what a cell may read of its own row.

    Args:
        gates: the inputs' contribution to the gates, bias included, ``[N, 4 h, H, W]`` or
            ``[4 h, H, W]``, in four consecutive parts o, f, i, g; float64, float32, float16 or
            bfloat16.
        weight: the state-to-state weight, ``[4 h, h, taps]``, taps odd.
        initial_state: the hidden and cell state above the first row, ``[2, h]``.
        backend: "auto", "triton" (needs a GPU), "cpu" (C++), "scan" (PyTorch, any device) or
            "reference" (the equations above). The first three call `torch.ops.pixelsr.row_lstm`;
            only "reference" has second derivatives.
    Returns:
        the hidden states, ``[N, h, H, W]`` or ``[h, H, W]``, dtype of `gates`. Sums and cell states
        are float32 (float64 for float64); the next row reads the hidden states in their rounded
        form.
    Raises:
        ValueError: the shapes, dtypes or devices do not match, the number of taps is even, or an
            explicit `backend` cannot run this input.
    """
    if gates.dim() == 3:
        return row_lstm(gates[None], weight, initial_state, backend=backend)[0]
    gates, weight, initial_state = autocast(gates, weight, initial_state)
    _check("row_lstm", gates, weight, initial_state)
    if weight.shape[2] % 2 == 0:
        raise ValueError(f"row_lstm takes an odd number of taps, got {weight.shape[2]}")
    backend = choose(backend, LSTM, gates)
    if backend == "reference":
        return row_lstm_ref(gates, weight, initial_state)
    keep = _needs_grad(gates, weight, initial_state)
    return torch.ops.pixelsr.row_lstm(gates, weight, initial_state, keep, backend)[0]


@overridable
def diagonal_lstm(
    gates: Tensor,
    weight: Tensor,
    initial_state: Tensor,
    *,
    reverse: bool = False,
    backend: str = "auto",
) -> Tensor:
    r"""Run one direction of the Diagonal BiLSTM (1601.06759, 3.2), diagonal by diagonal.

    With ``h, c`` of the cell to the left (`initial_state` for the first column) and ``above`` the
    hidden state of the cell above (zero for the first row)::

        o, f, i, g = gates[:, :, row, col] + above @ weight[:, :, 0].T + h @ weight[:, :, 1].T
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)

    Equals the paper's two-tap convolution down the columns of the skewed map, padded at the top.

    Args:
        gates: as in `row_lstm`.
        weight: the state-to-state weight, ``[4 h, h, 2]``: tap 0 reads the cell above, tap 1 the
            cell to the left. It needs no mask.
        initial_state: the hidden and cell state beside the first column, ``[2, h]``.
        reverse: run from right to left, reading the cell to the right. The result is causal only
            after a shift down by one row, see `diagonal_bilstm`.
        backend: as in `row_lstm`.
    Returns:
        the hidden states, as in `row_lstm`.
    Raises:
        ValueError: the number of taps is not two, or as in `row_lstm`.
    """
    if gates.dim() == 3:
        return diagonal_lstm(gates[None], weight, initial_state, reverse=reverse, backend=backend)[
            0
        ]
    gates, weight, initial_state = autocast(gates, weight, initial_state)
    _check_diagonal("diagonal_lstm", gates, weight, initial_state)
    backend = choose(backend, LSTM, gates)
    if backend == "reference":
        return diagonal_lstm_ref(gates, weight, initial_state, reverse)
    keep = _needs_grad(gates, weight, initial_state)
    operator = torch.ops.pixelsr.diagonal_lstm
    return operator(gates, weight, initial_state, reverse, keep, backend)[0]


@overridable
def diagonal_bilstm(
    gates: Tensor,
    weight: Tensor,
    initial_state: Tensor,
    weight_reverse: Tensor,
    initial_state_reverse: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """Run the Diagonal BiLSTM (1601.06759, 3.2) and add the outputs of its two directions.

    With ``a, b = gates.chunk(2, 1)``, equals::

        right = diagonal_lstm(b, ..., reverse=True)
        diagonal_lstm(a, ...) + F.pad(right, (0, 0, 1, 0))[:, :, :-1]

    The right-to-left output is shifted down by one row. Without the shift a cell would read pixels
    to its right, which are not drawn yet.

    Args:
        gates: the gates of both directions, ``[N, 8 h, H, W]`` or ``[8 h, H, W]``.
        weight, initial_state: for the left-to-right direction, as in `diagonal_lstm`.
        weight_reverse, initial_state_reverse: for the right-to-left direction.
        backend: as in `row_lstm`.
    Returns:
        ``[N, h, H, W]`` or ``[h, H, W]``, dtype of `gates`.
    Raises:
        ValueError: as in `diagonal_lstm`.
    """
    if gates.dim() == 3:
        states = (weight, initial_state, weight_reverse, initial_state_reverse)
        return diagonal_bilstm(gates[None], *states, backend=backend)[0]
    if gates.dim() != 4 or gates.shape[1] % 8:
        raise ValueError(
            f"diagonal_bilstm takes gates [N, 8 h, H, W] or [8 h, H, W], got {list(gates.shape)}"
        )
    a, b = gates.chunk(2, 1)
    if choose(backend, LSTM, gates) == "cpu":
        given = autocast(gates, weight, initial_state, weight_reverse, initial_state_reverse)
        _check_diagonal("diagonal_bilstm", *autocast(a, weight, initial_state))
        _check_diagonal("diagonal_bilstm", *autocast(b, weight_reverse, initial_state_reverse))
        return torch.ops.pixelsr.diagonal_bilstm(*given, _needs_grad(*given))[0]
    left = diagonal_lstm(a, weight, initial_state, backend=backend)
    right = diagonal_lstm(b, weight_reverse, initial_state_reverse, reverse=True, backend=backend)
    # Shift down by one row and drop the last row. The negative padding replaces a slice, whose
    # gradient would lose the memory format.
    return left + F.pad(right, (0, 0, 1, -1))


def _needs_grad(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _check_diagonal(name: str, gates: Tensor, weight: Tensor, initial_state: Tensor) -> None:
    _check(name, gates, weight, initial_state)
    if weight.shape[2] != 2:
        raise ValueError(f"{name} takes two taps, got {weight.shape[2]}")


def _check(name: str, gates: Tensor, weight: Tensor, initial_state: Tensor) -> None:
    if gates.dim() != 4 or weight.dim() != 3:
        raise ValueError(
            f"{name} takes gates [N, 4 h, H, W] or [4 h, H, W] and weight [4 h, h, taps], got "
            f"{list(gates.shape)} and {list(weight.shape)}"
        )
    parts, channels, _ = weight.shape
    if parts != 4 * channels or channels == 0:
        raise ValueError(f"{name}: weight must be [4 h, h, taps], got {list(weight.shape)}")
    if gates.shape[1] != parts:
        raise ValueError(f"{name}: gates have {gates.shape[1]} channels, the weight {parts}")
    if initial_state.shape != (2, channels):
        raise ValueError(
            f"{name}: initial_state must be [2, {channels}], got {list(initial_state.shape)}"
        )
    given = {"gates": gates, "weight": weight, "initial_state": initial_state}
    for what in ("dtype", "device"):
        found = {key: str(getattr(tensor, what)) for key, tensor in given.items()}
        if len(set(found.values())) > 1:
            raise ValueError(f"{name}: {', '.join(found)} must have one {what}, got {found}")
    if not gates.is_floating_point():
        raise ValueError(f"{name} takes floating-point tensors, got {gates.dtype}")
