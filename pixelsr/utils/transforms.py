"""The transforms of `torch.func` (grad, vmap, jvp, ...) that a call runs inside of."""

import torch
from torch._C import _functorch


def is_transformed() -> bool:
    """Return True inside any transform, where only operators of PyTorch's own have rules."""
    return bool(torch._C._are_functorch_transforms_active())


def is_vmapped() -> bool:
    """Return True inside `torch.vmap`, where no value of a tensor can be read."""
    levels = _functorch.get_interpreter_stack() or []
    return any(level.key() == _functorch.TransformType.Vmap for level in levels)
