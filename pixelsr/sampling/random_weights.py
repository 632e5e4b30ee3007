"""Random parameters, which show the structure of a network that trained values may hide."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def randomize(model: Model, *, keep_zeros: bool = False) -> Model:
    """Draw the parameters of a model, in place, with variance 1 / fan-in, and return it.

    Parameters that hold only zeros and ones, and both, are masks and stay; so do buffers. The
    distribution is uniform, since normal numbers take five times as long.

    Args:
        keep_zeros: keep all elements of parameters that are exactly zero, too.
    """
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if not parameter.is_floating_point() or not parameter.numel() or _is_mask(parameter):
            continue
        fan_in = parameter[0].numel() if parameter.dim() > 1 else parameter.numel()
        bound = (3 / fan_in) ** 0.5
        noise = torch.empty(parameter.shape, dtype=torch.float64, device="cpu")
        noise = noise.uniform_(-bound, bound, generator=random).to(parameter)
        parameter.copy_(noise * (parameter != 0) if keep_zeros else noise)
    return model


def _is_mask(parameter: Tensor) -> bool:
    ones, zeros = parameter == 1, parameter == 0
    return bool((ones | zeros).all() and ones.any() and zeros.any())
