"""Detection of the transforms of `torch.func` (grad, vmap, jvp, ...) around a call."""

import torch
from torch._C import _functorch


def is_transformed() -> bool:
    """Return True inside any transform, where only PyTorch's own operators have rules."""
    return bool(torch._C._are_functorch_transforms_active())


def is_vmapped() -> bool:
    """Return True inside `torch.vmap`, where the contents of a tensor cannot be read."""
    levels = _functorch.get_interpreter_stack() or []
    return any(level.key() == _functorch.TransformType.Vmap for level in levels)
