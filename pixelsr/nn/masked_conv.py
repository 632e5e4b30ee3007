"""The masked convolution as a module, with and without a gate."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.masks import (
    MaskType,
    causal_mask,
    channel_groups,
    check_dilation,
    check_first_groups,
    check_mask,
)


class MaskedConv2d(nn.Conv2d):
    """An `nn.Conv2d` whose output at a pixel depends only on values drawn before it.

    The parameters and state_dict keys are the same as in ``nn.Conv2d(in_channels, out_channels,
    kernel_size, padding="same")``; the result equals that convolution with
    ``weight * causal_mask(...)``. Dead taps, the weights that the mask multiplies by 0, stay in the
    weight; they must be finite, and get zero gradient. PixelRNN paper (1601.06759), section 3.4.

    Args:
        in_channels, out_channels: the numbers of channels.
        kernel_size: an odd int, or a pair of them, in pixels.
        mask_type: "A" (past pixels, and earlier color groups of the pixel itself: for the first
            layer), "B" (also the same color group: for later layers), "V-first" (the rows above) or
            "V" (also the whole current row, of inputs that know only the rows above).
        colors: the number of color groups into which the channels are divided in order.
        in_parts, out_parts: the number of equal parts of the input and output channels (gate
            halves, concatenated maps); each part is divided into color groups separately.
        padding: "same", or the equal int or pair. There is no other: a mask is for an output of the
            input's size.
        dilation: the distance between taps, in pixels.
        bias: whether to add a bias.
        device, dtype: of the parameters, as in `nn.Conv2d`.
    Shape:
        ``[N, in_channels, H, W]`` to ``[N, out_channels, H, W]``, or ``[in_channels, H, W]`` to
        ``[out_channels, H, W]``. An optional `add` of the output's shape is added to the output.
    Raises:
        ValueError: the mask is unknown, the kernel size is even, the parts do not divide the
            channels, there are fewer input channels than color groups under mask "A", the padding
            changes the size, or a dilation or kernel size is not a positive int.
    """

    _gate_halves = 1
    """The number of equal parts of the output that a gate multiplies."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        mask_type: MaskType,
        colors: int = 3,
        in_parts: int = 1,
        out_parts: int = 1,
        padding: Literal["same"] | int | tuple[int, int] = "same",
        dilation: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        height, width = _pair(kernel_size)
        if out_channels % self._gate_halves:
            raise ValueError(f"a gate takes an even number of channels, got {out_channels}")
        check_mask((height, width), mask_type)
        channel_groups(in_channels, colors, in_parts)
        channel_groups(out_channels, colors, out_parts)
        check_first_groups(in_channels, mask_type, colors, in_parts)
        check_dilation(dilation)
        same = (dilation * (height // 2), dilation * (width // 2))
        if padding not in ("same", same) and (padding, padding) != same:
            raise ValueError(
                f'padding must be "same", which is {same} for kernel_size {(height, width)} and '
                f"dilation {dilation}, got {padding!r}"
            )
        super().__init__(
            in_channels,
            out_channels,
            (height, width),
            padding=same,
            dilation=dilation,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.mask_type = mask_type
        self.colors = colors
        self.in_parts = in_parts
        self.out_parts = out_parts

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Return the convolution of `x`, plus `add` if it is given."""
        return functional.masked_conv2d(x, self.weight, self.bias, add=add, **self.layer())

    def layer(self) -> dict[str, Any]:
        """Return the keyword arguments of `functional.masked_conv2d` other than tensors."""
        return {
            "mask_type": self.mask_type,
            "colors": self.colors,
            "in_parts": self.in_parts,
            "out_parts": self.out_parts,
            "dilation": self.dilation[0],
        }

    def mask(self, device: torch.device | str | None = None) -> Tensor:
        """Return the live taps as bool, of the weight's shape. Do not write to the result.

        Args:
            device: the mask's device; None for the weight's device.
        """
        return causal_mask(
            self.in_channels,
            self.out_channels,
            (self.kernel_size[0], self.kernel_size[1]),
            mask_type=self.mask_type,
            colors=self.colors,
            in_parts=self.in_parts,
            out_parts=self.out_parts,
            device=self.weight.device if device is None else device,
        )

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, mask_type={self.mask_type!r}, colors={self.colors}, "
            f"in_parts={self.in_parts}, out_parts={self.out_parts}"
        )


class GatedMaskedConv2d(MaskedConv2d):
    """A masked convolution with a gate: returns ``gate(y)`` and ``y = MaskedConv2d(x) + add``.

    Gated PixelCNN (1606.05328), section 2.1. The arguments are the same as for `MaskedConv2d`.

    Shape:
        ``[N, in_channels, H, W]`` to ``[N, p, H, W]`` and ``[N, 2 p, H, W]``, where `out_channels`
        is 2 p; or the same without N.
    Raises:
        ValueError: `out_channels` is odd, or as in `MaskedConv2d`.
    """

    _gate_halves = 2

    def forward(  # type: ignore[override]
        self, x: Tensor, add: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the gated output, and the output before the gate."""
        return functional.masked_conv2d_gate(x, self.weight, self.bias, add=add, **self.layer())


def _pair(kernel_size: Any) -> tuple[int, int]:
    """Return a kernel size as (height, width)."""
    sizes = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    if not isinstance(sizes, tuple | list) or list(map(type, sizes)) != [int, int]:
        raise ValueError(f"kernel_size must be an int or a pair of ints, got {kernel_size!r}")
    return sizes[0], sizes[1]
