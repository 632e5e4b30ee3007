"""The last layers of a network together with their input features."""

from typing import NamedTuple

import torch
from torch import Tensor

from pixelsr.utils.transforms import is_vmapped


class LogitsHead(NamedTuple):
    """An output layer and its input features, in place of computed logits.

    The logits are ``to_logits(out(features))``, or with a hidden layer
    ``to_logits(out(relu(hidden(features))))``. The layers are 1x1 convolutions;
    `functional.pixel_cross_entropy` documents which of them are masked.

    Attributes:
        features: ``[N, K, H, W]``.
        weight: ``[C * L, K, 1, 1]``, color-major; with a hidden layer ``[C * L, hidden, 1, 1]``.
        bias: ``[C * L]`` or None.
        hidden_weight: ``[hidden, K, 1, 1]``, or None for no hidden layer.
        hidden_bias: ``[hidden]`` or None.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None = None
    hidden_weight: Tensor | None = None
    hidden_bias: Tensor | None = None


def check_logits_head(name: str, output: LogitsHead, images: Tensor) -> None:
    """Check that the tensors of a logits head match each other and the images.

    Args:
        name: the name of the logits head in error messages.
        images: ``[N, C, H, W]``.
    Raises:
        ValueError: they do not match.
    """
    features, weight, bias, hidden_weight, hidden_bias = output
    shape = (len(images), *images.shape[2:])
    if features.dim() != 4 or (len(features), *features.shape[2:]) != shape:
        raise ValueError(
            f"the features of the {name} must have the size of the images, "
            f"{[shape[0], 'K', *shape[1:]]}, got {list(features.shape)}".replace("'", "")
        )
    channels = features.shape[1]
    if hidden_weight is not None:
        _check_kernel(f"hidden weight of the {name}", hidden_weight, channels)
        _check_bias(f"hidden bias of the {name}", hidden_bias, hidden_weight)
        channels = len(hidden_weight)
    elif hidden_bias is not None:
        raise ValueError(f"the {name} has a hidden bias but no hidden weight")
    _check_kernel(f"weight of the {name}", weight, channels)
    _check_bias(f"bias of the {name}", bias, weight)
    colors = images.shape[1]
    if len(weight) % colors or not 2 <= len(weight) // colors <= 256:
        raise ValueError(
            f"the weight of the {name} must have 2 to 256 outputs for each of {colors} colors, "
            f"got {len(weight)}"
        )
    tensors = [tensor for tensor in output if tensor is not None]
    if not features.is_floating_point() or len({tensor.dtype for tensor in tensors}) > 1:
        dtypes = [tensor.dtype for tensor in tensors]
        raise ValueError(f"the tensors of the {name} must have one float dtype, got {dtypes}")
    if len({tensor.device for tensor in (images, *tensors)}) > 1:
        devices = [str(tensor.device) for tensor in (images, *tensors)]
        raise ValueError(f"images and {name} must be on one device, got {devices}")


def _check_kernel(name: str, weight: Tensor, channels: int) -> None:
    if weight.dim() != 4 or weight.shape[1:] != (channels, 1, 1):
        raise ValueError(f"the {name} must be [out, {channels}, 1, 1], got {list(weight.shape)}")


def _check_bias(name: str, bias: Tensor | None, weight: Tensor) -> None:
    if bias is not None and bias.shape != (len(weight),):
        raise ValueError(f"the {name} must be [{len(weight)}], got {list(bias.shape)}")


def check_targets(images: Tensor, levels: int) -> None:
    """Raise ValueError if an intensity is not below `levels`.

    Compiled graphs and vmap skip the check.
    """
    if levels >= 256 or torch.compiler.is_compiling() or not images.numel() or is_vmapped():
        return
    if int(images.max()) >= levels:
        raise ValueError(f"intensities must be below {levels}, got {int(images.max())}")
