"""One forward pass of a network: the yardstick of sampling."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import functional
from ..nn import GatedMaskedConv2d, MaskedConv2d
from .batch import Batch

Pass = Callable[[], Tensor]
"""Computes the logits of a batch, ``[B, L, C, H, W]``."""
TOLERANCE = 1e-3
"""Of two ways to compute the same logits in float32, relative to the largest."""


class _OnBackend(nn.Module):
    """A masked convolution, gated or not, on a backend that is named, whatever is the best here."""

    def __init__(self, layer: MaskedConv2d, backend: str) -> None:
        super().__init__()
        self.layer, self.backend = layer, backend

    def forward(self, x: Tensor, add: Tensor | None = None) -> Any:
        gated = isinstance(self.layer, GatedMaskedConv2d)
        run = functional.masked_conv2d_gate if gated else functional.masked_conv2d
        options = {**self.layer.layer(), "backend": self.backend}
        return run(x, self.layer.weight, self.layer.bias, add=add, **options)


def on_backend(model: nn.Module, backend: str) -> nn.Module:
    """A copy of the model whose masked convolutions all run on one backend.

    Args:
        backend: of `functional.masked_conv2d`.
    """
    copied = copy.deepcopy(model)
    for name, layer in list(copied.named_modules(remove_duplicate=False)):
        if isinstance(layer, MaskedConv2d):
            copied.set_submodule(name, _OnBackend(layer, backend))
    return copied


def dense_pass(batch: Batch) -> Pass:
    """Plain PyTorch: each masked layer is ``F.conv2d(x, weight * mask)``, in the default layout."""
    model = on_backend(batch.model, "reference")
    return torch.inference_mode()(lambda: model(*batch.inputs))


def cropped_pass(batch: Batch) -> Pass:
    """The kernels' dead rows cut off, channels last: what training runs."""
    layout = torch.channels_last
    model = on_backend(batch.model, "cropped").to(memory_format=layout)  # type: ignore[call-overload]
    inputs = [images.contiguous(memory_format=layout) for images in batch.inputs]
    return torch.inference_mode()(lambda: model(*inputs))


def check_the_same_logits(ours: Pass, theirs: Pass) -> None:
    """That two passes give the same logits, up to rounding; it warms both up.

    Raises:
        ValueError: they do not.
    """
    a, b = ours(), theirs()
    error = float((a - b).abs().max() / b.abs().max())
    if not error <= TOLERANCE:
        raise ValueError(
            f"not measured: two forward passes that should agree differ by {error:.2g} of the "
            f"largest logit, expected at most {TOLERANCE:g}"
        )
