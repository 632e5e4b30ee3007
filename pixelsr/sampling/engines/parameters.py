"""What an engine takes of a model's parameters: all of one kind, and in which dtype."""

import torch

from ..request import Request


def weight_dtype(request: Request) -> torch.dtype:
    """16-bit weights are kept in 16 bits; those of a float64 model, however rounded, are not."""
    own = next(request.model.parameters()).dtype
    return request.weights if request.weights and own == torch.float32 else own


def why_not_parameters(request: Request) -> str | None:
    """Why a model's parameters cannot be packed together; None where they can."""
    first, *others = request.model.named_parameters()
    for name, parameter in others:
        if parameter.dtype != first[1].dtype:
            return (
                f"the parameters are of mixed dtype, {first[1].dtype} and {parameter.dtype} "
                f"({name}), expected one"
            )
        if parameter.device != first[1].device:
            return f"the parameters are on {first[1].device} and {parameter.device} ({name})"
    return None
