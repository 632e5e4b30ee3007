"""The masked convolution and the gate."""

import torch
from torch import Tensor

from pixelsr.masks import MaskType, check_dilation, check_first_groups, check_mask
from pixelsr.ops.backends import GATE, MASKED_CONV2D, choose
from pixelsr.ops.masked_conv2d.reference import gate_ref, masked_conv2d_ref

from .autocast import autocast
from .overrides import overridable


def _check_masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    add: Tensor | None,
    mask_type: str,
    colors: int,
    in_parts: int,
    dilation: int,
) -> None:
    if x.dim() not in (3, 4) or weight.dim() != 4:
        raise ValueError(
            "masked_conv2d takes x [N, C_in, H, W] or [C_in, H, W] and weight "
            f"[C_out, C_in, kh, kw], got {list(x.shape)} and {list(weight.shape)}"
        )
    if x.shape[-3] != weight.shape[1]:
        raise ValueError(f"x has {x.shape[-3]} channels, the weight expects {weight.shape[1]}")
    given = {"x": x, "weight": weight, "bias": bias, "add": add}
    given = {name: tensor for name, tensor in given.items() if tensor is not None}
    for what in ("dtype", "device"):
        found = {name: str(getattr(tensor, what)) for name, tensor in given.items()}
        if len(set(found.values())) > 1:
            raise ValueError(f"{', '.join(found)} must have one {what}, got {found}")
    if bias is not None and bias.shape != (weight.shape[0],):
        raise ValueError(f"bias must be [{weight.shape[0]}], got {list(bias.shape)}")
    out = [*x.shape[:-3], weight.shape[0], *x.shape[-2:]]
    if add is not None and list(add.shape) != out:
        raise ValueError(f"add must have the shape of the output, {out}, got {list(add.shape)}")
    check_dilation(dilation)
    check_mask((weight.shape[2], weight.shape[3]), mask_type)
    check_first_groups(weight.shape[1], mask_type, colors, in_parts)


@overridable
def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    add: Tensor | None = None,
    mask_type: MaskType,
    colors: int = 3,
    in_parts: int = 1,
    out_parts: int = 1,
    dilation: int = 1,
    backend: str = "auto",
) -> Tensor:
    r"""Run a 2-D convolution whose output at a pixel depends only on values drawn before it.

    Equals ``F.conv2d(x, weight * causal_mask(...), bias, padding="same", dilation=dilation)``, plus
    `add` if it is given. PixelRNN paper (1601.06759), section 3.4.

    Args:
        x: input, ``[N, C_in, H, W]`` or ``[C_in, H, W]``; float64, float32, float16 or bfloat16.
        weight: ``[C_out, C_in, kh, kw]``, odd kernel; dead taps, which the mask
            multiplies by 0, must be finite, and get zero gradient.
        bias: ``[C_out]`` or None.
        add: added to the output, of the same shape, such as a residual connection. Triton's
            kernel adds it without another pass over memory.
        mask_type: "A" (past pixels, and earlier color groups of the pixel itself: for the first
            layer), "B" (also the same color group: for later layers), "V-first" (the rows above) or
            "V" (also the whole current row, of inputs that know only the rows above).
        colors: the number of color groups of the channels.
        in_parts, out_parts: the number of equal parts of the input and output channels; each part
            is divided into color groups separately.
        dilation: the distance between taps, vertically and horizontally.
        backend: "auto", "triton" (computes live blocks of taps and color groups only; needs a GPU,
            no float64), "cropped" (PyTorch's convolution over the live rectangle) or "reference"
            (the equation above). "auto" chooses "triton" only on a GPU where benchmarks found it
            to be the fastest.
    Returns:
        ``[N, C_out, H, W]`` or ``[C_out, H, W]``, dtype of ``x``.
    Raises:
        ValueError: the shapes, dtypes or devices do not match, the mask is unknown, the parts do
            not divide the channels, or an explicit `backend` cannot run this input.
    """
    x, weight, bias, add = autocast(x, weight, bias, add)
    _check_masked_conv2d(x, weight, bias, add, mask_type, colors, in_parts, dilation)
    layer = (mask_type, colors, in_parts, out_parts, dilation)
    if unbatched := x.dim() == 3:
        x, add = x[None], None if add is None else add[None]
    chosen = choose(backend, MASKED_CONV2D, x)
    if chosen == "triton":
        out = torch.ops.pixelsr.masked_conv2d_triton(x, weight, bias, add, *layer)
    else:
        run = torch.ops.pixelsr.masked_conv2d if chosen == "cropped" else masked_conv2d_ref
        out = run(x, weight, bias, *layer)
        out = out if add is None else out + add
    return out[0] if unbatched else out


@overridable
def masked_conv2d_gate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    add: Tensor | None = None,
    mask_type: MaskType,
    colors: int = 3,
    in_parts: int = 1,
    out_parts: int = 1,
    dilation: int = 1,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return ``gate(y)`` and ``y``, where ``y = masked_conv2d(x, weight, bias, add=add, ...)``.

    The "triton" backend computes both in one pass. Gated PixelCNN (1606.05328), section 2.1. The
    arguments are the same as for `masked_conv2d`.

    Returns:
        ``[N, p, H, W]`` and ``[N, 2 p, H, W]``, or both without N.
    Raises:
        ValueError: the number of output channels is odd, or as in `masked_conv2d`.
    """
    if weight.dim() == 4 and weight.shape[0] % 2:
        raise ValueError(f"a gate takes an even number of channels, got {weight.shape[0]}")
    x, weight, bias, add = autocast(x, weight, bias, add)
    _check_masked_conv2d(x, weight, bias, add, mask_type, colors, in_parts, dilation)
    if unbatched := x.dim() == 3:
        x, add = x[None], None if add is None else add[None]
    if choose(backend, MASKED_CONV2D, x) == "triton":
        layer = (mask_type, colors, in_parts, out_parts, dilation)
        gated, y = torch.ops.pixelsr.masked_conv2d_gate_triton(x, weight, bias, add, *layer)
    else:
        y = masked_conv2d(
            x,
            weight,
            bias,
            add=add,
            mask_type=mask_type,
            colors=colors,
            in_parts=in_parts,
            out_parts=out_parts,
            dilation=dilation,
            backend=backend,
        )
        gated = gate(y) if backend == "auto" else gate_ref(y)
    return (gated[0], y[0]) if unbatched else (gated, y)


@overridable
def gate(x: Tensor, *, backend: str = "auto") -> Tensor:
    """Return ``tanh(a) * sigmoid(b)``, where ``a, b = x.chunk(2, dim=-3)``.

    Gated PixelCNN (1606.05328), section 2.1.

    Args:
        x: ``[N, 2 p, H, W]`` or ``[2 p, H, W]``.
        backend: "auto", "triton" (one kernel forward and one backward; needs a GPU, no float64) or
            "reference".
    Returns:
        ``[N, p, H, W]`` or ``[p, H, W]``, dtype of ``x``.
    Raises:
        ValueError: the rank or dtype is wrong, the number of channels is odd, or an explicit
            `backend` cannot run this input.
    """
    if x.dim() not in (3, 4) or x.shape[-3] % 2 or not x.is_floating_point():
        raise ValueError(
            f"gate takes float [N, 2 p, H, W] or [2 p, H, W], got {x.dtype} {list(x.shape)}"
        )
    if x.dim() == 3:
        return gate(x[None], backend=backend)[0]
    return torch.ops.pixelsr.gate_triton(x) if choose(backend, GATE, x) == "triton" else gate_ref(x)
