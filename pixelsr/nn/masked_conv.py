"""The masked convolution as a module."""

from typing import Any

import torch
from torch import Tensor, nn

from .. import functional
from ..masks import causal_mask, channel_groups, check_dilation, check_mask


class MaskedConv2d(nn.Conv2d):
    """`nn.Conv2d` whose output at a pixel sees only values drawn before it.

    The same parameters and state_dict keys as ``nn.Conv2d(in_channels, out_channels, kernel_size,
    padding="same")``; equals that convolution with ``weight * causal_mask(...)``. Dead taps stay in
    the weight, are never read, and get zero gradient. PixelRNN paper (1601.06759), section 3.4.

    Args:
        in_channels, out_channels: numbers of channels.
        kernel_size: odd int or pair.
        mask_type: "A", "B", "V-first" or "V"; see `pixelsr.masks.MaskType`.
        colours: colour groups of the channels.
        in_parts, out_parts: equal pieces (gate halves, concatenated maps) grouped each by itself.
        dilation: distance between taps.
        bias: whether a bias is added.
    Shape:
        ``[N, in_channels, H, W]`` to ``[N, out_channels, H, W]``.
    Raises:
        ValueError: an unknown mask, an even kernel, parts that do not divide the channels, or a
            dilation or a kernel size that is not made of positive ints.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        mask_type: str,
        colours: int = 3,
        in_parts: int = 1,
        out_parts: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        height, width = _pair(kernel_size)
        check_mask(mask_type, (height, width))
        channel_groups(in_channels, colours, in_parts)
        channel_groups(out_channels, colours, out_parts)
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
        self.colours = colours
        self.in_parts = in_parts
        self.out_parts = out_parts

    def forward(self, x: Tensor) -> Tensor:
        return functional.masked_conv2d(
            x,
            self.weight,
            self.bias,
            mask_type=self.mask_type,
            colours=self.colours,
            in_parts=self.in_parts,
            out_parts=self.out_parts,
            dilation=self.dilation[0],
        )

    def mask(self, device: torch.device | str | None = None) -> Tensor:
        """The live taps, bool, of the weight's shape; not to be written to.

        Args:
            device: where the mask is to be; None for the weight's device.
        """
        return causal_mask(
            self.out_channels,
            self.in_channels,
            (self.kernel_size[0], self.kernel_size[1]),
            self.mask_type,
            colours=self.colours,
            in_parts=self.in_parts,
            out_parts=self.out_parts,
            device=self.weight.device if device is None else device,
        )

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, mask_type={self.mask_type!r}, colours={self.colours}, "
            f"in_parts={self.in_parts}, out_parts={self.out_parts}"
        )


def _pair(kernel_size: Any) -> tuple[int, int]:
    """Height and width."""
    sizes = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    if not isinstance(sizes, tuple | list) or list(map(type, sizes)) != [int, int]:
        raise ValueError(f"kernel_size must be an int or two, got {kernel_size!r}")
    return sizes[0], sizes[1]
