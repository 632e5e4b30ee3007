"""TF32 by its definition: 8 exponent bits and 11 significant bits, including the leading one."""

import torch
from torch import Tensor


def nearest_tf32(x: Tensor) -> Tensor:
    """Return float32 `x` rounded to the nearest TF32, ties away from zero."""
    exact = x.double()
    exponent = torch.frexp(exact).exponent.clamp(min=-125)  # subnormals keep the smallest spacing
    spacing = torch.ldexp(torch.ones_like(exact), exponent - 11)
    rounded = exact.sign() * (exact.abs() / spacing + 0.5).floor() * spacing
    return torch.where(exact.isfinite(), rounded, exact).to(x.dtype)
