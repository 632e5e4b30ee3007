"""The stateless public layer: validate, choose a backend, call."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import ops as _ops  # noqa: F401  registers torch.ops.pixelsr
from .backends import MASKED_CONV2D, choose
from .masks import check_dilation, check_mask
from .reference import masked_conv2d_ref


def _check_masked_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, mask_type: str, dilation: int
) -> None:
    if x.dim() != 4 or weight.dim() != 4:
        raise ValueError(
            "masked_conv2d takes x [N, C_in, H, W] and weight [C_out, C_in, kh, kw], got "
            f"{list(x.shape)} and {list(weight.shape)}"
        )
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"x has {x.shape[1]} channels, the weight expects {weight.shape[1]}")
    if x.dtype != weight.dtype or (bias is not None and bias.dtype != x.dtype):
        dtypes = [x.dtype, weight.dtype, None if bias is None else bias.dtype]
        raise ValueError(f"x, weight and bias must have one dtype, got {dtypes}")
    if x.device != weight.device or (bias is not None and bias.device != x.device):
        raise ValueError(f"x is on {x.device}, the weight on {weight.device}; expected one device")
    if bias is not None and bias.shape != (weight.shape[0],):
        raise ValueError(f"bias must be [{weight.shape[0]}], got {list(bias.shape)}")
    check_dilation(dilation)
    check_mask(mask_type, (weight.shape[2], weight.shape[3]))


def _autocasts(x: Tensor) -> bool:
    """As for the library's convolution: float64 is never computed in less."""
    device = x.device.type
    available = torch.amp.is_autocast_available(device)
    return available and torch.is_autocast_enabled(device) and x.dtype != torch.float64


def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask_type: str,
    colours: int = 3,
    in_parts: int = 1,
    out_parts: int = 1,
    dilation: int = 1,
    backend: str = "auto",
) -> Tensor:
    r"""2-D convolution whose output at a pixel sees only values drawn before it.

    Equals ``F.conv2d(x, weight * causal_mask(...), bias, padding="same", dilation=dilation)``.
    PixelRNN paper (1601.06759), section 3.4.

    Args:
        x: input, ``[N, C_in, H, W]``; float64, float32, float16 or bfloat16.
        weight: ``[C_out, C_in, kh, kw]``, odd kernel; dead taps are not read and get zero gradient.
        bias: ``[C_out]`` or None.
        mask_type: "A", "B", "V-first" or "V"; see `pixelsr.masks.MaskType`.
        colours: colour groups of the channels.
        in_parts, out_parts: equal pieces that are grouped each by itself.
        dilation: distance between taps, both ways.
        backend: "auto", "cropped" (the library's convolution over the live rectangle) or
            "reference" (the equation above, as it stands).
    Returns:
        ``[N, C_out, H, W]``, dtype of ``x``.
    Raises:
        ValueError: shapes, dtypes or devices that do not fit, an unknown mask, parts that do not
            divide the channels, or an explicit `backend` that cannot run this.
    """
    if _autocasts(x):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    _check_masked_conv2d(x, weight, bias, mask_type, dilation)
    layer = (mask_type, colours, in_parts, out_parts, dilation)
    if choose(backend, MASKED_CONV2D, x) == "reference":
        return masked_conv2d_ref(x, weight, bias, *layer)
    return torch.ops.pixelsr.masked_conv2d(x, weight, bias, *layer)


def gate(x: Tensor) -> Tensor:
    """``tanh(a) * sigmoid(b)`` with ``a, b = x.chunk(2, dim=1)``; Gated PixelCNN (1606.05328), 2.1.

    Args:
        x: ``[N, 2 p, H, W]``.
    Returns:
        ``[N, p, H, W]``.
    """
    if x.dim() != 4 or x.shape[1] % 2 or not x.is_floating_point():
        raise ValueError(f"gate takes float [N, 2 p, H, W], got {x.dtype} {list(x.shape)}")
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


def scale_levels(
    images: Tensor, colours: int, levels: int, dtype: torch.dtype, name: str = "images"
) -> Tensor:
    """Intensities 0 .. levels - 1 as features in [-1, 1]: ``2 * images / (levels - 1) - 1``.

    Args:
        images: uint8 ``[N, colours, H, W]``.
        name: what an error calls the images.
    Returns:
        ``[N, colours, H, W]`` of `dtype`.
    Raises:
        ValueError: another rank, dtype or number of colours.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != colours:
        raise ValueError(
            f"{name} must be uint8 [N, {colours}, H, W], got {images.dtype} {list(images.shape)}"
        )
    return images.to(dtype) * (2 / (levels - 1)) - 1


def to_logits(features: Tensor, colours: int, levels: int) -> Tensor:
    """Colour-major ``[N, colours * levels, H, W]`` as logits ``[N, levels, colours, H, W]``.

    Equals ``features.view(N, colours, levels, H, W).transpose(1, 2)``.

    Raises:
        ValueError: another rank or number of channels.
    """
    if features.dim() != 4 or features.shape[1] != colours * levels:
        raise ValueError(
            f"to_logits takes [N, {colours} * {levels}, H, W], got {list(features.shape)}"
        )
    n, _, height, width = features.shape
    return features.view(n, colours, levels, height, width).transpose(1, 2)


def add_logits(conditioning: Tensor, prior: Tensor) -> Tensor:
    """``A(x) + B(y)``, refused where the two do not describe the same picture.

    Raises:
        ValueError: the shapes differ.
    """
    if conditioning.shape != prior.shape:
        raise ValueError(
            "low_res, magnified, must have the size of the images: their logits are "
            f"{list(conditioning.shape)} and {list(prior.shape)}"
        )
    return conditioning + prior


def nats(logits: Tensor, images: Tensor) -> Tensor:
    """Negative log-likelihood in nats per image, ``[N]``: cross-entropy summed over the values.

    Equals ``F.cross_entropy(logits, images.long(), reduction="none").flatten(1).sum(1)``; sums in
    float32 (float64 for float64).

    Args:
        logits: ``[N, L, C, H, W]``.
        images: uint8 ``[N, C, H, W]``.
    Raises:
        ValueError: shapes or dtypes that do not fit, or an intensity of L or more.
    """
    if logits.dim() != 5 or logits.shape[:1] + logits.shape[2:] != images.shape:
        raise ValueError(
            "nats takes logits [N, L, C, H, W] and images [N, C, H, W], got "
            f"{list(logits.shape)} and {list(images.shape)}"
        )
    if images.dtype != torch.uint8 or not logits.is_floating_point():
        raise ValueError(f"nats takes float and uint8, got {logits.dtype} and {images.dtype}")
    levels = logits.shape[1]
    if levels < 256 and not torch.compiler.is_compiling() and int(images.max()) >= levels:
        raise ValueError(f"intensities must be below {levels}, got {int(images.max())}")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    rows = logits.permute(0, 3, 4, 2, 1).flatten(0, 3)  # [N H W C, L], a view in channels_last
    targets = images.permute(0, 2, 3, 1).flatten().long()
    return F.cross_entropy(rows, targets, reduction="none").view(len(images), -1).sum(1)
