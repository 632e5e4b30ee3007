"""Forward passes of a network, the unit of the benchmarks.

On a CPU a pass runs in the model's own dtype, as a user would call it. On a GPU it is the fastest
form of plain PyTorch: a bfloat16 copy, channels last, with the masks multiplied into the weights,
replayed as a CUDA graph; large batches run `CHUNK` images at a time.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.masks import live_rectangle
from pixelsr.nn import GatedMaskedConv2d, MaskedConv2d
from pixelsr.ops.masked_conv2d.reference import gate_ref

from . import timing
from .inputs import Batch

Pass = Callable[[], Tensor]
"""A function that computes the logits of a batch, ``[B, L, C, H, W]``."""
TOLERANCE = {torch.float64: 1e-10, torch.bfloat16: 0.1}
"""The largest difference of two passes, relative to the largest logit. In bfloat16 it catches only
gross errors: after twenty layers of random weights, different summation orders are far apart."""
FLOAT_TOLERANCE = 1e-3
"""The same tolerance in float32."""
CHUNK = 256
"""The most images of a pass on a GPU; the logits alone of such a pass take 400 MB."""


class _OnBackend(nn.Module):
    """A masked convolution, gated or not, on a given backend instead of the best one."""

    def __init__(self, layer: MaskedConv2d, backend: str) -> None:
        super().__init__()
        self.layer, self.backend = layer, backend

    @property
    def weight(self) -> Tensor:
        """The layer's weight, from which networks read their dtype."""
        return self.layer.weight

    def forward(self, x: Tensor, add: Tensor | None = None) -> Any:
        gated = isinstance(self.layer, GatedMaskedConv2d)
        run = functional.masked_conv2d_gate if gated else functional.masked_conv2d
        options = {**self.layer.layer(), "backend": self.backend}
        return run(x, self.layer.weight, self.layer.bias, add=add, **options)


def on_backend(model: nn.Module, backend: str) -> nn.Module:
    """Return a copy of the model whose masked convolutions all run on one backend.

    Args:
        backend: a backend of `functional.masked_conv2d`.
    """
    copied = copy.deepcopy(model)
    for name, layer in list(copied.named_modules(remove_duplicate=False)):
        if isinstance(layer, MaskedConv2d):
            copied.set_submodule(name, _OnBackend(layer, backend))
    return copied


class _Folded(nn.Module):
    """A masked convolution, gated or not, in plain PyTorch with the mask folded into the weight.

    Args:
        cropped: crop the kernel to the rectangle of its live taps.
    """

    def __init__(self, layer: MaskedConv2d, cropped: bool) -> None:
        super().__init__()
        height, width = layer.kernel_size
        rows, cols = (
            live_rectangle((height, width), layer.mask_type) if cropped else (height, width)
        )
        weight = (layer.weight * layer.mask()).detach()
        self.weight = nn.Parameter(weight[:, :, :rows, :cols].contiguous())
        self.bias = layer.bias
        self.gated, self.dilation = isinstance(layer, GatedMaskedConv2d), layer.dilation[0]
        top, left = self.dilation * (height // 2), self.dilation * (width // 2)
        bottom, right = self.dilation * (rows - 1) - top, self.dilation * (cols - 1) - left
        even = top if top == bottom else 0
        self.padding = (even, right)
        self.uneven = (left - right, 0, top - even, bottom - even)

    def forward(self, x: Tensor, add: Tensor | None = None) -> Any:
        padded = F.pad(x, self.uneven) if any(self.uneven) else x
        y = F.conv2d(padded, self.weight, self.bias, 1, self.padding, self.dilation)
        y = y if add is None else y + add
        return (gate_ref(y), y) if self.gated else y


def folded(model: nn.Module, cropped: bool, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """Return a plain PyTorch copy of the model, channels last, with masks folded into weights."""
    copied = copy.deepcopy(model)
    for name, layer in list(copied.named_modules(remove_duplicate=False)):
        if isinstance(layer, MaskedConv2d):
            copied.set_submodule(name, _Folded(layer, cropped))
    return copied.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.inference_mode()
def _checked_copy(batch: Batch, cropped: bool) -> nn.Module:
    """Return a folded bfloat16 copy, after a check of a float64 copy against the model."""
    inputs = [images[:1] for images in batch.inputs]
    whole = on_backend(copy.deepcopy(batch.model).double(), "reference")
    ours = folded(batch.model, cropped, torch.float64)
    check_the_same_logits(lambda: ours(*inputs), lambda: whole(*inputs))
    return folded(batch.model, cropped)


def fast_pass(batch: Batch, *, cropped: bool, rows: int | None = None) -> Pass:
    """Return a pass of a folded copy as a CUDA graph, replayed for each chunk.

    The pass returns the logits of the first chunk: each replay computes that chunk again.

    Args:
        rows: run only the prior, on this number of rows; None runs the whole network.
    """
    return batch.keep((cropped, rows), partial(_make_fast_pass, batch, cropped, rows))


@torch.inference_mode()
def _make_fast_pass(batch: Batch, cropped: bool, rows: int | None) -> Pass:
    model = batch.keep((cropped, "model"), partial(_checked_copy, batch, cropped))
    chunk, count = batch.chunks(CHUNK)
    inputs = chunk.inputs
    if rows is not None:
        model, inputs = getattr(model, "prior", model), (chunk.images[:, :, :rows],)
    inputs = tuple(images.contiguous(memory_format=torch.channels_last) for images in inputs)
    with timing.quickest_convolutions():
        replay = timing.graphed(batch.device, torch.inference_mode()(lambda: model(*inputs)))
    return lambda: [replay() for _ in range(count)][-1]


def dense_pass(batch: Batch) -> Pass:
    """Return a pass in plain PyTorch: each masked layer is ``F.conv2d(x, weight * mask)``.

    It uses the default layout on a CPU; on a GPU it is a bfloat16, channels-last CUDA graph.
    """
    if timing.uses_graphs(batch.device):
        return fast_pass(batch, cropped=False)
    model = on_backend(batch.model, "reference")
    return torch.inference_mode()(lambda: model(*batch.inputs))


def cropped_pass(batch: Batch) -> Pass:
    """Return a pass with kernels cropped to their live taps, channels last, as in training.

    On a GPU it is a bfloat16 CUDA graph.
    """
    if timing.uses_graphs(batch.device):
        return fast_pass(batch, cropped=True)
    layout = torch.channels_last
    model = on_backend(batch.model, "cropped").to(memory_format=layout)  # type: ignore[call-overload]
    inputs = [images.contiguous(memory_format=layout) for images in batch.inputs]
    return torch.inference_mode()(lambda: model(*inputs))


def check_the_same_logits(ours: Pass, theirs: Pass) -> None:
    """Check that two passes compute the same logits, up to rounding; this also warms them up.

    Raises:
        ValueError: the logits differ by more than the tolerance.
    """
    a, b = ours(), theirs()
    tolerance = TOLERANCE.get(b.dtype, FLOAT_TOLERANCE)
    error = float((a - b).abs().max() / b.abs().max())
    if not error <= tolerance:
        raise ValueError(
            f"not measured: two forward passes that should agree differ by {error:.2g} of the "
            f"largest logit, expected at most {tolerance:g}"
        )
