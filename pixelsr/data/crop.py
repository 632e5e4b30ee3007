"""Cropping and reduction of an image to the low_res input of a model."""

import dataclasses

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .downsample import area_average

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels; right and bottom are exclusive."""


@dataclasses.dataclass(frozen=True)
class SmallImage:
    """A model's input, and the original at the size of the model's output."""

    low_res: Tensor  # uint8 [C, h, w]
    original: Tensor | None  # uint8 [C, H, W]; None if the square already had the input's size


def small_image(
    photo: Image.Image,
    *,
    size: int = 8,
    scale_factor: int = 4,
    colors: int = 3,
    box: Box | None = None,
) -> SmallImage:
    """Reduce the center square of an RGB image, or its square `box`, by area averages.

    The original is the square's area average at `size * scale_factor`; low_res is the area average
    of the original, as in training. A square of exactly `size` is used unchanged.

    Raises:
        ValueError: the box is empty, not a square, or exceeds the image; or the side of the square
            is neither `size` nor at least `size * scale_factor`.
    """
    cut = photo.crop(center_square(photo.size) if box is None else _checked(box, photo.size))
    square = to_tensor(cut.convert("L") if colors == 1 else cut)
    side, large = square.shape[-1], size * scale_factor
    if side == size:
        return SmallImage(square, None)
    if side < large:
        raise ValueError(
            f"the square to enlarge is {side} pixels a side, expected exactly {size} (it is then "
            f"used unchanged) or at least {large}"
        )
    original = area_resize(square, large)
    return SmallImage(area_average(original[None], scale_factor)[0], original)


def center_square(size: tuple[int, int]) -> Box:
    """Return the center square for this width and height; an odd pixel is cut off at the end."""
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


def _checked(box: Box, size: tuple[int, int]) -> Box:
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise ValueError(f"the box {box} is empty, expected left < right and top < bottom")
    if left < 0 or top < 0 or right > size[0] or bottom > size[1]:
        raise ValueError(f"the box {box} leaves the image, which has {size[0]} x {size[1]} pixels")
    if right - left != bottom - top:
        raise ValueError(f"the box {box} is {right - left} x {bottom - top}, expected a square")
    return box


def area_resize(image: Tensor, size: int) -> Tensor:
    """Return the exact area average of a square image at any smaller size, rounded half to even.

    A pixel that crosses a border counts on both sides, by its share. If `size` divides the side,
    the result equals `area_average`.

    Args:
        image: uint8 ``[C, S, S]``.
    Returns:
        uint8 ``[C, size, size]``.
    """
    side = image.shape[-1]
    rows = _sum_rows(image.numpy(), size)  # [C, size, S]
    sums = _sum_rows(rows.swapaxes(1, 2), size).swapaxes(1, 2)
    # The sums are below 2**53, so that the division finds every tie.
    return torch.from_numpy(np.ascontiguousarray(np.rint(sums / side**2), np.uint8))


def _sum_rows(values: np.ndarray, size: int) -> np.ndarray:
    """Return `size` times the sum over each band of rows, ``[C, S, W]`` to ``[C, size, W]``."""
    starts, before = np.divmod(np.arange(size) * values.shape[1], size)
    ends = [*starts[1:], values.shape[1]]
    bands = [
        np.add.reduce(values[:, start:end], 1, np.int64)
        for start, end in zip(starts, ends, strict=True)
    ]
    sums = size * np.stack(bands, 1)
    # If a band starts within a row, `before / size` of that row belongs to the previous band.
    borders = before[:, None] * values[:, starts]
    sums[:, :-1] += borders[:, 1:]
    return sums - borders


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an RGB or gray image to uint8 ``[C, H, W]``."""
    values = torch.from_numpy(np.array(image))
    return values[None] if values.dim() == 2 else values.permute(2, 0, 1).contiguous()


def from_tensor(image: Tensor) -> Image.Image:
    """Convert uint8 ``[C, H, W]`` to an RGB image."""
    if image.shape[0] == 1:
        return Image.fromarray(image[0].numpy()).convert("RGB")
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
