"""In what precision the products of a kernel are made."""

import torch
from torch import Tensor

from .configs import HALF, IEEE, TF32


def conv_precision(x: Tensor) -> str:
    """Key of a table of configs: TF32 only where PyTorch's switch of convolutions allows it."""
    if x.dtype != torch.float32:
        return HALF
    return TF32 if torch.backends.cudnn.conv.fp32_precision == "tf32" else IEEE


def matmul_precision(x: Tensor) -> str:
    """Key of a table of configs: TF32 only where PyTorch's switch of products allows it."""
    if x.dtype != torch.float32:
        return HALF
    return TF32 if torch.backends.cuda.matmul.fp32_precision == "tf32" else IEEE


def input_precision(precision: str) -> str:
    """Of `tl.dot`; it does not matter to 16 bits."""
    return "tf32" if precision == TF32 else "ieee"
