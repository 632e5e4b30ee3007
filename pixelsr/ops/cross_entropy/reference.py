"""The reference implementation of the pixel cross-entropy in plain PyTorch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..dtypes import accumulator
from ..masked_conv2d.reference import masked_conv2d_ref
from .logits_head import LogitsHead


def nll_ref(logits: Tensor, images: Tensor) -> Tensor:
    """Return the cross-entropy of each image, ``[N]``, summed in float32 or float64."""
    logits = logits.to(accumulator(logits.dtype))
    rows = logits.permute(0, 3, 4, 2, 1).flatten(0, 3)  # [N H W C, L], a view in channels_last
    targets = images.permute(0, 2, 3, 1).flatten().long()
    nll = F.cross_entropy(rows, targets, reduction="none")
    return nll.view(images.shape[0], math.prod(images.shape[1:])).sum(1)


def pixel_cross_entropy_ref(
    images: Tensor, prior: LogitsHead, conditioning: LogitsHead | None, scale: float
) -> Tensor:
    """Return the nll of A + B and, if there is A, of A / scale, ``[terms, N]``, from features."""
    colors = images.shape[1]
    features = prior.features
    if prior.hidden_weight is not None:
        hidden = masked_conv2d_ref(features, prior.hidden_weight, prior.hidden_bias, "B", colors)
        features = F.relu(hidden)
    out = masked_conv2d_ref(features, prior.weight, prior.bias, "B", colors)
    logits = out.unflatten(1, (colors, -1)).transpose(1, 2)  # [N, L, C, H, W]
    if conditioning is None:
        return pixel_cross_entropy_with_logits_ref(logits, images, None, scale)
    alone = F.conv2d(conditioning.features, conditioning.weight, conditioning.bias)
    alone = alone.unflatten(1, (colors, -1)).transpose(1, 2)
    return pixel_cross_entropy_with_logits_ref(logits, images, alone, scale)


def pixel_cross_entropy_with_logits_ref(
    logits: Tensor, images: Tensor, conditioning: Tensor | None, scale: float
) -> Tensor:
    """Return the nll of A + B and, if there is A, of A / scale, ``[terms, N]``, from logits."""
    if conditioning is None:
        return nll_ref(logits, images)[None]
    terms = conditioning + logits, conditioning / scale
    return torch.stack([nll_ref(some, images) for some in terms])
