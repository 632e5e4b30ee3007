"""The recurrences of PixelRNN by Triton kernels."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ..memory_format import dense, side_by_side
from ..registry import interprets
from .eager import from_initial_hidden, of_initial_hidden, of_weight, wavefronts
from .states import Kind, States


def forward_triton(
    kind: Kind, gates: Tensor, weight: Tensor, initial: Tensor, states: States
) -> None:
    """Fill `states`, except for empty tensors."""
    with _its_gpu(gates):
        from pixelsr.kernels.lstm.forward import launch_lstm

        # The kernel writes channels-last; hidden states of another format are copied from it.
        written = _dense_or_empty(states.hidden)
        given = side_by_side(gates), weight, initial.contiguous()
        edge = from_initial_hidden(kind, weight, initial[0], gates.shape[3])
        launch_lstm(*given, edge, written, states.cell, states.activations, *_geometry(kind, gates))
    if written is not states.hidden:
        states.hidden.copy_(written)


def backward_triton(
    kind: Kind, grad: Tensor, weight: Tensor, initial: Tensor, states: States, grad_gates: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill `grad_gates` and return the gradients of the weight and of the initial state."""
    with _its_gpu(grad):
        from pixelsr.kernels.lstm.backward import launch_lstm_grad

        written, states = _dense_or_empty(grad_gates), States(*(dense(x) for x in states))
        given = side_by_side(grad), weight, initial.contiguous()
        kept = states.cell, states.activations
        of_cell = launch_lstm_grad(*given, *kept, written, *_geometry(kind, grad))
    of_hidden = of_initial_hidden(kind, written, weight)
    of_initial = torch.stack((of_hidden, of_cell)).to(initial.dtype)
    of_weights = of_weight(kind, written, states.hidden, initial[0], weight.shape[2])
    if written is not grad_gates:
        grad_gates.copy_(written)
    return of_weights, of_initial


def _geometry(kind: Kind, x: Tensor) -> tuple[list[int], bool, bool]:
    """Return the number of cells of each wavefront, and the two flags of the recurrence."""
    cells = [last - first for first, last, _ in wavefronts(kind, x.shape[2], x.shape[3])]
    return cells, kind.diagonal, kind.reverse


def _dense_or_empty(x: Tensor) -> Tensor:
    """Return `x` if it is dense and channels-last, otherwise an empty tensor that is."""
    if x.is_contiguous(memory_format=torch.channels_last):
        return x
    return torch.empty_like(x, memory_format=torch.channels_last)


def _its_gpu(x: Tensor) -> AbstractContextManager[object]:
    """Return a context in which the GPU of a tensor is the current one, as Triton requires."""
    if x.device.type != "cpu":
        return torch.cuda.device(x.device)
    if not interprets():
        raise ValueError("Triton's recurrences need a GPU, or TRITON_INTERPRET=1 on a CPU")
    return nullcontext()
