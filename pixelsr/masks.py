"""The definition of causal masks: which taps of a kernel and which color groups are live.

This is the only definition; every other part of the package uses it. Values are drawn in raster
order: row by row, left to right, color by color. A tap is live if the value that it reads was drawn
before.
"""

from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from pixelsr.utils.transforms import is_transformed

MaskType = Literal["A", "B", "V-first", "V"]
"""The types of masks, by what the convolution may read.

"A": past pixels, and at its own pixel the color groups *before* its own (for the first layer).
"B": past pixels, and at its own pixel the color groups up to and including its own.
"V-first": the rows above.
"V": the rows above and the whole current row, for inputs that depend only on the rows above.
"""


def check_mask(kernel_size: tuple[int, int], mask_type: str) -> None:
    """Raise ValueError if there is no causal mask of this type and kernel size."""
    if mask_type not in get_args(MaskType):
        raise ValueError(f"mask_type must be one of {get_args(MaskType)}, got {mask_type!r}")
    if any(size < 1 or size % 2 == 0 for size in kernel_size):
        raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
    if mask_type == "V-first" and kernel_size[0] < 3:
        raise ValueError(f'mask_type "V-first" needs a kernel of 3 rows or more, got {kernel_size}')


def check_dilation(dilation: int) -> None:
    """Raise ValueError if the dilation is not a positive int."""
    if type(dilation) is not int or dilation < 1:
        raise ValueError(f"dilation must be a positive int, got {dilation!r}")


def group_sizes(channels: int, colors: int) -> list[int]:
    """Return the sizes of the contiguous color groups.

    The first `channels % colors` groups have one channel more than the others.
    """
    return [channels // colors + (group < channels % colors) for group in range(colors)]


@lru_cache
def channel_groups(channels: int, colors: int, parts: int = 1) -> tuple[int, ...]:
    """Return the color group of each channel.

    Each of the `parts` equal parts of the channels is divided into color groups separately.
    """
    if colors < 1:
        raise ValueError(f"colors must be positive, got {colors}")
    if parts < 1 or channels % parts:
        raise ValueError(f"{channels} channels cannot be cut into {parts} equal parts")
    own = channels // parts
    sizes = group_sizes(own, min(colors, own))  # leaves out groups without channels
    return tuple(group for group, size in enumerate(sizes) for _ in range(size)) * parts


def check_first_groups(in_channels: int, mask_type: str, colors: int, in_parts: int) -> None:
    """Raise ValueError if an input of mask "A" lacks a color group.

    Outputs of the groups after the missing one would read their own pixel.
    """
    if mask_type == "A" and 0 < in_channels < colors * in_parts:
        parts = "" if in_parts == 1 else f" in {in_parts} parts"
        raise ValueError(
            f'mask_type "A" with {colors} color groups needs an input channel for each, got '
            f"{in_channels}{parts}; for gray images pass colors=1"
        )


def live_rectangle(kernel_size: tuple[int, int], mask_type: str) -> tuple[int, int]:
    """Return the height and width of the top left part of the kernel that holds all live taps."""
    rows, cols = kernel_size[0] // 2 + (mask_type != "V-first"), kernel_size[1]
    if rows == 1 and mask_type in ("A", "B"):
        cols = cols // 2 + 1
    return rows, cols


@torch.inference_mode(False)  # a mask may be shared with training later
def _build_mask(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    mask_type: str,
    colors: int,
    in_parts: int,
    out_parts: int,
    device: torch.device,
) -> Tensor:
    check_mask(kernel_size, mask_type)
    center_row, center_col = kernel_size[0] // 2, kernel_size[1] // 2
    mask = torch.zeros(out_channels, in_channels, *kernel_size, dtype=torch.bool, device=device)
    mask[:, :, :center_row] = True
    if mask_type == "V":
        mask[:, :, center_row] = True
    if mask_type in ("A", "B"):
        mask[:, :, center_row, :center_col] = True
        reads = torch.tensor(channel_groups(in_channels, colors, in_parts), device=device)
        own = torch.tensor(channel_groups(out_channels, colors, out_parts), device=device)
        center = reads[None, :] < own[:, None] if mask_type == "A" else reads <= own[:, None]
        mask[:, :, center_row, center_col] = center
    return mask


_cached_mask = lru_cache(_build_mask)


def causal_mask(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    *,
    mask_type: str,
    colors: int = 3,
    in_parts: int = 1,
    out_parts: int = 1,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the live taps of a masked convolution, for the arguments of `nn.MaskedConv2d`.

    Args:
        in_channels, out_channels, kernel_size: the sizes of the weight; odd kernel sizes.
        mask_type: "A", "B", "V-first" or "V" (see `MaskType`).
        colors: the number of color groups; of n channels, group g has
            n // colors + (g < n % colors).
        in_parts, out_parts: the number of equal parts of the channels (gate halves, concatenated
            maps); each part is divided into color groups separately.
    Returns:
        bool ``[out_channels, in_channels, kh, kw]``, true where the tap is live. Calls share the
        tensor, so do not write to it.
    Raises:
        ValueError: the `mask_type` is unknown, the kernel size is even, or the parts do not divide
            the channels.
    """
    # Masks made while tracing (fake, or part of one graph) or inside a transform (wrapped) must not
    # be shared.
    make = _build_mask if is_in_torch_dispatch_mode() or is_transformed() else _cached_mask
    return make(
        in_channels,
        out_channels,
        (kernel_size[0], kernel_size[1]),
        mask_type,
        colors,
        in_parts,
        out_parts,
        torch.device(device),
    )
