"""The kinds of recurrences, and the tensors that they fill."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..dtypes import accumulator
from ..memory_format import is_channels_last


class Kind(NamedTuple):
    """A kind of recurrence.

    Attributes:
        diagonal: True for a Diagonal LSTM, whose cells read the cells above and beside them; False
            for a Row LSTM, whose cells read a centered window of the row above.
        reverse: True for the direction from right to left.
    """

    diagonal: bool = False
    reverse: bool = False

    def border(self, taps: int) -> int:
        """Return the tap that reads the predecessor, whose cell state the cell continues."""
        return 1 if self.diagonal else taps // 2

    def states(self, height: int, width: int) -> int:
        """Return the number of states that are carried from wavefront to wavefront."""
        return height if self.diagonal else width


class States(NamedTuple):
    """The outputs of a recurrence.

    Attributes:
        hidden: ``[N, h, H, W]``, in the dtype of the gates.
        cell: ``[N, h, H, W]``, in the accumulator's dtype; empty if not kept for gradients.
        activations: the gates after sigmoid and tanh, ``[N, 4 h, H, W]``; empty likewise.
    """

    hidden: Tensor
    cell: Tensor
    activations: Tensor


def empty_states(gates: Tensor, keep: bool) -> States:
    """Return uninitialized states of the cells with these gates.

    The hidden states have the memory format of the gates; the others are channels-last, or empty
    without `keep`.
    """
    n, parts, height, width = gates.shape
    shape, exact = (n, parts // 4, height, width), accumulator(gates.dtype)
    hidden = _empty(gates, shape)
    if not keep:
        return States(hidden, gates.new_empty(0, dtype=exact), gates.new_empty(0))
    last, device = torch.channels_last, gates.device
    cell = torch.empty(shape, dtype=exact, device=device, memory_format=last)
    activations = torch.empty(gates.shape, dtype=gates.dtype, device=device, memory_format=last)
    return States(hidden, cell, activations)


def empty_grad_gates(hidden: Tensor, directions: int = 1) -> Tensor:
    """Return an uninitialized gradient of the gates of one direction or of two.

    It has the memory format of the gates and the hidden states: a convolution's backward is slow if
    its input and its gradient differ in format.
    """
    n, h, height, width = hidden.shape
    return _empty(hidden, (n, directions * 4 * h, height, width))


def _empty(like: Tensor, shape: Sequence[int]) -> Tensor:
    last = torch.channels_last if is_channels_last(like) else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=last)
