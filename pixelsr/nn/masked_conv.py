"""The masked convolution as a module, with and without a gate."""

from typing import Any

import torch
from torch import Tensor, nn

from pixelsr import functional
from pixelsr.masks import (
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
    ``weight * causal_mask(...)``. Dead taps stay in the weight, are never read, and get zero
    gradient. PixelRNN paper (1601.06759), section 3.4.

    Args:
        in_channels, out_channels: the numbers of channels.
        kernel_size: an odd int, or a pair of them.
        mask_type: "A", "B", "V-first" or "V"; see `pixelsr.masks.MaskType`.
        colors: the number of color groups of the channels.
        in_parts, out_parts: the number of equal parts of the input and output channels (gate
            halves, concatenated maps); each part is divided into color groups separately.
        dilation: the distance between taps.
        bias: whether to add a bias.
    Shape:
        ``[N, in_channels, H, W]`` to ``[N, out_channels, H, W]``. An optional `add` of the output's
        shape is added to the output.
    Raises:
        ValueError: the mask is unknown, the kernel size is even, the parts do not divide the
            channels, there are fewer input channels than color groups under mask "A", or a
            dilation or kernel size is not a positive int.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        mask_type: str,
        colors: int = 3,
        in_parts: int = 1,
        out_parts: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        height, width = _pair(kernel_size)
        check_mask(mask_type, (height, width))
        channel_groups(in_channels, colors, in_parts)
        channel_groups(out_channels, colors, out_parts)
        check_first_groups(mask_type, in_channels, colors, in_parts)
        check_dilation(dilation)
        padding = (dilation * (height // 2), dilation * (width // 2))
        super().__init__(
            in_channels,
            out_channels,
            (height, width),
            padding=padding,
            dilation=dilation,
            bias=bias,
        )
        self.mask_type = mask_type
        self.colors = colors
        self.in_parts = in_parts
        self.out_parts = out_parts

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
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
            self.out_channels,
            self.in_channels,
            (self.kernel_size[0], self.kernel_size[1]),
            self.mask_type,
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
        is 2 p.
    Raises:
        ValueError: `out_channels` is odd, or as in `MaskedConv2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, *args: Any, **kwargs: Any) -> None:
        if out_channels % 2:
            raise ValueError(f"a gate takes an even number of channels, got {out_channels}")
        super().__init__(in_channels, out_channels, *args, **kwargs)

    def forward(  # type: ignore[override]
        self, x: Tensor, add: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return functional.masked_conv2d_gate(x, self.weight, self.bias, add=add, **self.layer())


def _pair(kernel_size: Any) -> tuple[int, int]:
    """Return a kernel size as (height, width)."""
    sizes = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    if not isinstance(sizes, tuple | list) or list(map(type, sizes)) != [int, int]:
        raise ValueError(f"kernel_size must be an int or a pair of ints, got {kernel_size!r}")
    return sizes[0], sizes[1]
