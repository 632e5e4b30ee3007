"""Networks with an operation that no plan supports, in ``body`` between two convolutions."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masked_stack import MaskedConv2d

LEVELS, CHANNELS = 4, 6
ADAPT = {"colors": 1, "levels": LEVELS, "inputs": "unit", "outputs": "levels"}


class Rolled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.roll(x, 1, dims=2)


class SumOfColumns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, dim=3)


class Attention(nn.Module):
    """Causal attention over the positions, with one head."""

    def __init__(self) -> None:
        super().__init__()
        self.query_key_value = nn.Conv2d(CHANNELS, 3 * CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query_key_value(x).flatten(2).chunk(3, dim=1)
        scores = q.transpose(1, 2) @ k
        future = torch.ones_like(scores[0]).triu(1).bool()
        weights = torch.softmax(scores.masked_fill(future, -1e9), dim=-1)
        return (weights @ v.transpose(1, 2)).transpose(1, 2).view_as(x)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return torch.tanh(x)
        return torch.sigmoid(x)


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class BatchMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0, keepdim=True)


class BatchStatistics(nn.Module):
    """The normalization by the mean and variance of the batch, as batch norm in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True)


class Refused(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.first = MaskedConv2d("A", 1, CHANNELS, 3, padding=1)
        self.body = body
        self.last = nn.Conv2d(CHANNELS, LEVELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self.first(x)))


OPERATIONS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "roll over rows": (Rolled, "roll", "refused.py"),
    "cumulative sum over columns": (SumOfColumns, "cumsum", "refused.py"),
    "attention": (Attention, "softmax|matmul|bmm", "refused.py"),
    "branch on a value": (Branch, "sum|item|is_nonzero|bool|local_scalar", "refused.py"),
    "mean over the batch": (BatchMean, "mean", "refused.py"),
    "statistics of the batch": (BatchStatistics, "batch_norm", "refused.py"),
    "batch norm in training mode": (lambda: nn.BatchNorm2d(CHANNELS), "batch_norm", ".py"),
}
"""A body that no plan supports, a pattern of the name of its operation, and its source file."""
