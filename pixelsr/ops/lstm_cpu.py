"""The recurrences of PixelRNN by the compiled kernels for the CPU: all fronts in one call.

What is kept for gradients is channels last.
"""

import torch
from torch import Tensor

from ..scan import Kind, accumulator, of_initial_hidden, windows
from .layout import dense, is_channels_last, side_by_side

_ROUNDING = {torch.float16: 1, torch.bfloat16: 2}
"""csrc/cpu/lstm.h knows these numbers."""


def outputs(gates: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Uninitialised; channels last where the gates are."""
    n, parts, height, width = gates.shape
    shape, exact = (n, parts // 4, height, width), accumulator(gates.dtype)
    hidden = empty(gates, shape, gates.dtype)
    if not keep:
        return hidden, gates.new_empty(0, dtype=exact), gates.new_empty(0)
    return hidden, empty(gates, shape, exact), empty(gates, gates.shape, gates.dtype)


def empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    last = torch.channels_last if is_channels_last(like) else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=last)


def outputs_cpu(gates: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """As `outputs`; what is kept is always channels last."""
    hidden, cell, activations = outputs(gates, False)
    if keep:
        cell = _empty_last(hidden, accumulator(gates.dtype))
        activations = _empty_last(gates, gates.dtype)
    return hidden, cell, activations


def _is_as_written(x: Tensor, exact: torch.dtype) -> bool:
    """Is this what the kernels write? Of what is empty nothing is written."""
    last = torch.channels_last
    return x.numel() == 0 or (x.dtype == exact and x.is_contiguous(memory_format=last))


def _empty_last(like: Tensor, dtype: torch.dtype) -> Tensor:
    last = torch.channels_last
    return torch.empty(like.shape, dtype=dtype, device=like.device, memory_format=last)


def forward_cpu(
    kind: Kind, gates: Tensor, weight: Tensor, initial: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    hidden, cell, activations = outputs_cpu(gates, keep)
    if not hidden.numel():
        return hidden, cell, activations
    exact = accumulator(gates.dtype)
    matrix = weight.permute(2, 1, 0).flatten(0, 1).to(exact).contiguous()
    gates, initial = side_by_side(gates.to(exact)), initial.to(exact).contiguous()
    # The kernel writes channels last and exactly; what is returned otherwise is a copy of it.
    outs = (hidden, cell, activations)
    written = [x if _is_as_written(x, exact) else _empty_last(x, exact) for x in outs]
    torch.ops.pixelsr.lstm_scan_(
        gates,
        matrix,
        initial,
        *written,
        kind.diagonal,
        kind.reverse,
        _ROUNDING.get(hidden.dtype, 0),
        torch.get_num_threads(),
    )
    for x, other in zip(outs, written, strict=True):
        if x is not other:
            x.copy_(other)
    return hidden, cell, activations


def grad_cpu(
    kind: Kind,
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    exact, shape = accumulator(grad.dtype), weight.shape
    # In the format of the gates, which is that of the hidden states: a convolution's backward is
    # slow where its input and its gradient lie differently.
    of_gates = empty(hidden, activations.shape, grad.dtype)
    if not grad.numel():
        return of_gates, weight.new_zeros(shape), initial.new_zeros(initial.shape)
    written = of_gates if _is_as_written(of_gates, exact) else _empty_last(of_gates, exact)
    hidden, weight, initial = hidden.to(exact), weight.to(exact), initial.to(exact).contiguous()
    of_cell = grad.new_empty(grad.shape[:2], dtype=exact)
    torch.ops.pixelsr.lstm_scan_grad_(
        side_by_side(grad.to(exact)),
        weight.flip(2).permute(2, 0, 1).flatten(0, 1).contiguous(),
        initial,
        dense(cell),
        dense(activations.to(exact)),
        written,
        of_cell,
        kind.diagonal,
        kind.reverse,
        torch.get_num_threads(),
    )
    by_cell = written.permute(0, 2, 3, 1).flatten(0, 2)
    read = windows(kind, dense(hidden).permute(0, 2, 3, 1), initial[0], shape[2])
    of_weight = (by_cell.T @ read.flatten(3).flatten(0, 2)).view(shape[0], shape[2], shape[1])
    of_initial = torch.stack((of_initial_hidden(kind, written, weight), of_cell.sum(0)))
    of_weight = of_weight.transpose(1, 2).contiguous()
    if written is not of_gates:
        of_gates.copy_(written)
    return of_gates, of_weight.to(grad.dtype), of_initial.to(grad.dtype)
