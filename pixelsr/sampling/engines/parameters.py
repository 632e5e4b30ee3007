"""What an engine takes of a model's parameters: all of one kind, and in which dtype."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..plan import Product
from ..plan.steps import Initial, Weight
from ..request import Request


def parameter(model: nn.Module, layer: str, name: str) -> Tensor:
    """A parameter as the layer itself sees it, whatever reparametrisation it is under."""
    own: Tensor = getattr(model.get_submodule(layer), name)
    return own.detach()


def block_of(model: nn.Module, block: Weight) -> Tensor:
    """The block of a weight, ``[out, in, rows, columns]``."""
    whole = parameter(model, block.layer, block.parameter)
    whole = whole if whole.dim() == 4 else whole.unsqueeze(2)
    taken = block.out_channels, block.in_channels, block.kernel_rows, block.kernel_cols
    for dim, indices in enumerate(taken):
        whole = _take(whole, dim, indices)
    return whole


def _take(tensor: Tensor, dim: int, indices: Sequence[int]) -> Tensor:
    """Return the slices at `indices`: a view where they follow each other, otherwise a copy."""
    count = len(indices)
    if count and tuple(indices) == tuple(range(indices[0], indices[0] + count)):
        return tensor.narrow(dim, indices[0], count)
    return tensor.index_select(dim, torch.tensor(indices, dtype=torch.long, device=tensor.device))


def bias_of(model: nn.Module, step: Product, dtype: torch.dtype) -> Tensor:
    """The sum of a product's biases, ``[out]``."""
    device = next(model.parameters()).device
    bias = torch.zeros(step.out.count, dtype=dtype, device=device)
    for layer, channels in step.biases:
        bias += parameter(model, layer, "bias")[list(channels)]
    return bias


def initial_of(model: nn.Module, initial: Initial) -> Tensor:
    """The state that a recurrence begins with, ``[channels]``."""
    layer, _, name = initial.parameter.rpartition(".")
    return parameter(model, layer, name)[initial.part]


def weight_dtype(request: Request) -> torch.dtype:
    """16-bit weights are kept in 16 bits; those of a float64 model, however rounded, are not."""
    own = next(request.model.parameters()).dtype
    return request.weights if request.weights and own == torch.float32 else own


def why_not_parameters(request: Request) -> str | None:
    """Why a model's parameters cannot be packed together; None where they can."""
    first, *others = request.model.named_parameters()
    for name, other in others:
        if other.dtype != first[1].dtype:
            return (
                f"the parameters are of mixed dtype, {first[1].dtype} and {other.dtype} "
                f"({name}), expected one"
            )
        if other.device != first[1].device:
            return f"the parameters are on {first[1].device} and {other.device} ({name})"
    return None
