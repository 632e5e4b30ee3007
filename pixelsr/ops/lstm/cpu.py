"""The recurrences of PixelRNN by compiled CPU kernels, all wavefronts in one call.

Tensors that are kept for gradients are channels-last.
"""

import torch
from torch import Tensor

from ..dtypes import accumulator
from ..memory_format import dense, is_channels_last
from ..registry import LIBRARY
from .eager import of_initial_hidden
from .states import Kind, States

# These operators exist in C++ only. All tensors have one dtype, float32 or float64. `matrix`
# multiplies all that a cell reads. Maps are channels-last or have dense planes; tensors kept for
# gradients are dense and channels-last.
_SCAN = "bool diagonal, bool reverse"
LIBRARY.define(
    "lstm_scan_(Tensor gates, Tensor matrix, Tensor initial, Tensor(a!) hidden, Tensor(b!) cell, "
    f"Tensor(c!) activations, {_SCAN}, int rounding, int threads) -> ()"
)
LIBRARY.define(
    "lstm_scan_grad_(Tensor grad, Tensor matrix, Tensor initial, Tensor hidden, Tensor cell, "
    "Tensor activations, Tensor(a!) grad_gates, Tensor(b!) of_matrix, Tensor(c!) of_initial_cell, "
    f"{_SCAN}, int threads) -> ()"
)

_ROUNDING = {torch.float16: 1, torch.bfloat16: 2}
"""The numbers of the dtypes that hidden states are rounded to, as in csrc/cpu/simd/lstm.h."""


def forward_cpu(kind: Kind, gates: Tensor, weight: Tensor, initial: Tensor, states: States) -> None:
    """Fill `states`, except for empty tensors."""
    exact = accumulator(gates.dtype)
    # The kernel writes the accumulator's dtype; outputs of another dtype are copied from it.
    written = [x if x.dtype == exact else torch.empty_like(x, dtype=exact) for x in states]
    torch.ops.pixelsr.lstm_scan_(
        _as_read(gates, exact),
        weight.permute(2, 1, 0).flatten(0, 1).to(exact).contiguous(),
        initial.to(exact).contiguous(),
        *written,
        kind.diagonal,
        kind.reverse,
        _ROUNDING.get(gates.dtype, 0),
        torch.get_num_threads(),
    )
    for x, other in zip(states, written, strict=True):
        if x is not other:
            x.copy_(other)


def backward_cpu(
    kind: Kind, grad: Tensor, weight: Tensor, initial: Tensor, states: States, grad_gates: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill `grad_gates` and return the gradients of the weight and of the initial state.

    `grad_gates` is channels-last or has dense planes.
    """
    exact, (parts, h, taps) = accumulator(grad.dtype), weight.shape
    written = grad_gates
    if grad_gates.dtype != exact:
        written = torch.empty_like(grad_gates, dtype=exact)
    of_matrix = grad.new_empty(taps, h, parts, dtype=exact)
    of_cell = grad.new_empty(len(grad), h, dtype=exact)
    torch.ops.pixelsr.lstm_scan_grad_(
        _as_read(grad, exact),
        weight.flip(2).permute(2, 0, 1).flatten(0, 1).to(exact).contiguous(),
        initial.to(exact).contiguous(),
        _as_read(states.hidden, exact),
        dense(states.cell),
        dense(states.activations.to(exact)),
        written,
        of_matrix,
        of_cell,
        kind.diagonal,
        kind.reverse,
        torch.get_num_threads(),
    )
    of_hidden = of_initial_hidden(kind, written, weight.to(exact))
    of_initial = torch.stack((of_hidden, of_cell.sum(0)))
    if written is not grad_gates:
        grad_gates.copy_(written)
    of_weight = of_matrix.permute(2, 1, 0).contiguous()
    return of_weight.to(grad.dtype), of_initial.to(grad.dtype)


def _as_read(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert `x` to `dtype` and a format that the kernels read: channels-last or dense planes."""
    x = x.to(dtype)
    fits = is_channels_last(x) or x.shape[1] == 1 or x[:1, :1].is_contiguous()
    return x if fits else dense(x)
