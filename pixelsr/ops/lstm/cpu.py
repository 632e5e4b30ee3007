"""The recurrences of PixelRNN by compiled CPU kernels, all wavefronts in one call.

Tensors that are kept for gradients are channels-last.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..memory_format import dense, is_channels_last
from ..registry import LIBRARY
from .eager import Kind, accumulator, of_initial_hidden

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


def outputs_cpu(gates: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return uninitialized hidden states, cell states and activations.

    The hidden states have the memory format of the gates; the others are channels-last, or empty
    without `keep`.
    """
    n, parts, height, width = gates.shape
    shape, exact = (n, parts // 4, height, width), accumulator(gates.dtype)
    hidden = empty(gates, shape, gates.dtype)
    if not keep:
        return hidden, gates.new_empty(0, dtype=exact), gates.new_empty(0)
    last, device = torch.channels_last, gates.device
    cell = torch.empty(shape, dtype=exact, device=device, memory_format=last)
    activations = torch.empty(gates.shape, dtype=gates.dtype, device=device, memory_format=last)
    return hidden, cell, activations


def empty(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return an uninitialized tensor that is channels-last if `like` is."""
    last = torch.channels_last if is_channels_last(like) else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=last)


def forward_cpu(
    kind: Kind, gates: Tensor, weight: Tensor, initial: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    outs = outputs_cpu(gates, keep)
    if not outs[0].numel():
        return outs
    exact = accumulator(gates.dtype)
    # The kernel writes the accumulator's dtype; outputs of another dtype are copied from it.
    written = [x if x.dtype == exact else torch.empty_like(x, dtype=exact) for x in outs]
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
    for x, other in zip(outs, written, strict=True):
        if x is not other:
            x.copy_(other)
    return outs


def grad_cpu(
    kind: Kind,
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    # The gradient has the memory format of the gates and the hidden states: a convolution's
    # backward is slow if its input and its gradient differ in format.
    of_gates = empty(hidden, activations.shape, grad.dtype)
    kept = (hidden, cell, activations)
    return of_gates, *grad_into(of_gates, kind, grad, weight, initial, *kept)


def grad_into(
    of_gates: Tensor,
    kind: Kind,
    grad: Tensor,
    weight: Tensor,
    initial: Tensor,
    hidden: Tensor,
    cell: Tensor,
    activations: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fill `of_gates` and return the gradients of the weight and the initial state.

    `of_gates` is channels-last or has dense planes.
    """
    if not grad.numel():
        return weight.new_zeros(weight.shape), initial.new_zeros(initial.shape)
    exact, (parts, h, taps) = accumulator(grad.dtype), weight.shape
    written = of_gates if of_gates.dtype == exact else torch.empty_like(of_gates, dtype=exact)
    of_matrix = grad.new_empty(taps, h, parts, dtype=exact)
    of_cell = grad.new_empty(len(grad), h, dtype=exact)
    torch.ops.pixelsr.lstm_scan_grad_(
        _as_read(grad, exact),
        weight.flip(2).permute(2, 0, 1).flatten(0, 1).to(exact).contiguous(),
        initial.to(exact).contiguous(),
        _as_read(hidden, exact),
        dense(cell),
        dense(activations.to(exact)),
        written,
        of_matrix,
        of_cell,
        kind.diagonal,
        kind.reverse,
        torch.get_num_threads(),
    )
    of_hidden = of_initial_hidden(kind, written, weight.to(exact))
    of_initial = torch.stack((of_hidden, of_cell.sum(0)))
    if written is not of_gates:
        of_gates.copy_(written)
    of_weight = of_matrix.permute(2, 1, 0).contiguous()
    return of_weight.to(grad.dtype), of_initial.to(grad.dtype)


def _as_read(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert `x` to `dtype` and a format that the kernels read: channels-last or dense planes."""
    x = x.to(dtype)
    fits = is_channels_last(x) or x.shape[1] == 1 or x[:1, :1].is_contiguous()
    return x if fits else dense(x)
