"""The library `torch.ops.pixelsr` that every file here registers its operators in."""

import importlib.util

import torch

LIBRARY = torch.library.Library("pixelsr", "DEF")

HAS_TRITON = all(importlib.util.find_spec(name) for name in ("triton", "pixelsr.kernels"))
"""Can Triton kernels be imported? Only the code of an operator does so, when it is called."""
