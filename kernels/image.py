"""Positions in channels-last images."""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def positions_of_tile(tile, pixels, height, width, BLOCK_P: tl.constexpr, INDEX: tl.constexpr):
    """Return pixel numbers over all images, images, rows and columns of a tile, and their mask."""
    pixel = (tl.zeros([BLOCK_P], INDEX) + tile) * BLOCK_P + tl.arange(0, BLOCK_P)
    col, line = pixel % width, pixel // width
    image = (line // height).to(tl.int64)
    return pixel.to(tl.int64), image, (line % height).to(tl.int32), col.to(tl.int32), pixel < pixels


@triton.jit
def is_inside(row, col, exists, height, width):
    """Return True where a row and column are in the image; what lies around it is read as zero."""
    return exists & (row >= 0) & (row < height) & (col >= 0) & (col < width)


def strides(x: Tensor) -> tuple[int, int, int]:
    """Return the strides of images, rows and columns; the stride of channels is 1."""
    image, _, row, col = x.stride()
    return image, row, col
