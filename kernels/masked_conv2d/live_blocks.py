"""The work list of the masked convolution's kernels: the blocks that have live taps.

A masked convolution is a sum of matrix products, one for each tap: the channels of the pixel that
the tap reads, times the tap's weights. Divided into blocks of output and input channels, many of
these products are fully masked: every block of a dead tap, and at the center tap the blocks of
color groups that an output may not read. The work list, which is derived from the mask, holds only
the other blocks.
"""

import dataclasses
from collections.abc import Hashable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..configs import FEWEST_CHANNELS


@dataclasses.dataclass(frozen=True)
class Layer:
    """A masked layer. Layers with the same key are equal, so that their tables are cached.

    Attributes:
        key: everything that determines the mask and the dilation, and the device.
        mask: bool ``[out, in, kh, kw]``, on the device of the layer's weight.
        dilation: the distance between taps.
    """

    key: Hashable
    mask: Tensor = dataclasses.field(compare=False)
    dilation: int = dataclasses.field(compare=False)

    @property
    def device(self) -> torch.device:
        return self.mask.device

    def host_mask(self) -> npt.NDArray[np.bool_]:
        return self.mask.cpu().numpy()


@dataclasses.dataclass(frozen=True)
class Products:
    """The live blocks, grouped by block of output channels.

    Attributes:
        table: int32 ``[entries, 4]``: the offset of the tap in rows and columns, the block of input
            channels, and its first row of weights. With lanes ``[entries * block_in, 4]``: the
            offset of each lane's tap, its channel, and its row of weights; -1 in unused lanes.
        first: int32 ``[out blocks + 1]``, the index of the first entry of each out block, and the
            number of entries.
        owner: int32 ``[entries]``, the out block of an entry.
        lanes: True if each lane has its own tap.
    """

    table: Tensor
    first: Tensor
    owner: Tensor
    lanes: bool

    @property
    def entries(self) -> int:
        return len(self.owner)

    @property
    def out_blocks(self) -> int:
        return len(self.first) - 1


@torch.inference_mode(False)  # tables made while sampling are used in training later
def find_products(
    mask: npt.NDArray[np.bool_], dilation: int, block_out: int, block_in: int, device: torch.device
) -> Products:
    """Return the live blocks of ``mask``, bool ``[out, in, kh, kw]``.

    A negative dilation rotates the taps by 180 degrees.
    """
    out_channels, in_channels, height, width = mask.shape
    lanes = in_channels < FEWEST_CHANNELS
    tables, owners, first = [], [], [0]
    for block, start in enumerate(range(0, out_channels, block_out)):
        live = mask[start : start + block_out].any(0)  # [in, kh, kw]
        if not lanes:
            live = np.logical_or.reduceat(live, range(0, in_channels, block_in), 0)
        tap, where = np.nonzero(live.reshape(len(live), height * width).T)
        shift = dilation * (tap // width - height // 2), dilation * (tap % width - width // 2)
        weight_row = tap * in_channels + (where if lanes else where * block_in)
        table = np.stack([*shift, where, weight_row], 1)
        if lanes:
            table = np.pad(table, ((0, -len(table) % block_in), (0, 0)), constant_values=-1)
        tables.append(table)
        count = len(table) // (block_in if lanes else 1)
        owners += [block] * count
        first.append(first[-1] + count)
    parts = (np.concatenate(tables), np.array(first), np.array(owners))
    table, starts, owner = (torch.from_numpy(part.astype(np.int32)).to(device) for part in parts)
    return Products(table, starts, owner, lanes)


@lru_cache(maxsize=256)
def forward_products(layer: Layer, halves: int, block_out: int, block_in: int) -> Products:
    """Return the blocks of ``y = masked_conv2d(x)``; with two halves, the union of their blocks."""
    mask = layer.host_mask()
    mask = mask.reshape(halves, len(mask) // halves, *mask.shape[1:]).any(0)
    return find_products(mask, layer.dilation, block_out, block_in, layer.device)


@lru_cache(maxsize=256)
def grad_input_products(layer: Layer, block_out: int, block_in: int) -> Products:
    """Return the blocks of the gradient of x, with the same taps in the opposite direction."""
    mask = layer.host_mask().transpose(1, 0, 2, 3)
    return find_products(mask, -layer.dilation, block_out, block_in, layer.device)


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def positions_in_products(layer: Layer, block_out: int, block_in: int) -> tuple[Tensor, Tensor]:
    """Return the index of each weight's gradient among the blocks, and the mask of live weights.

    Returns:
        int64 ``[out, in, kh, kw]``, indices into the flattened ``[entries, block_in, block_out]``;
        and bool of the same shape.
    """
    mask = layer.host_mask()
    products = find_products(mask, layer.dilation, block_out, block_in, torch.device("cpu"))
    out_channels, in_channels, height, width = mask.shape
    weight_row = products.table[:, 3].numpy()
    slot = np.zeros((products.out_blocks, height * width * in_channels), np.int64)
    owner = products.owner.numpy()
    if products.lanes:
        lane = np.arange(len(weight_row))
        used = weight_row >= 0
        slot[owner[lane // block_in][used], weight_row[used]] = lane[used]
    else:
        channel = products.table[:, 2].numpy() * block_in
        for entry, block in enumerate(owner):
            count = min(block_in, in_channels - channel[entry])
            start = weight_row[entry]
            slot[block, start : start + count] = entry * block_in + np.arange(count)
    out = np.arange(out_channels)
    place = slot[out // block_out] * block_out + (out % block_out)[:, None]  # [out, taps * in]
    place = place.reshape(out_channels, height, width, in_channels).transpose(0, 3, 1, 2)
    return torch.from_numpy(place.copy()).to(layer.device), layer.mask
