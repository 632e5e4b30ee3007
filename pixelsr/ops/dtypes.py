"""The dtype of sums."""

import torch


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which numbers of a dtype are summed: float32, or float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32
