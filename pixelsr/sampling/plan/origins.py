"""The origins of a tensor's elements: which channel of which feature map, at which position.

Each element of a recorded tensor has an int64 *origin*. An origin >= 0 is a channel of a feature
map at a row and column. A negative origin is an element of a *given* tensor, which does not depend
on the image: a constant, a condition, or zero. Whatever moves elements (slices, padding,
transposes, concatenation) moves origins in the same way.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Origins = NDArray[np.int64]

_COL_BITS, _ROW_BITS, _CHANNEL_BITS, _ELEMENT_BITS = 13, 13, 17, 40
MAX_SIDE, MAX_CHANNELS = 1 << _COL_BITS, 1 << _CHANNEL_BITS
_ROW_SHIFT = _COL_BITS
_CHANNEL_SHIFT = _ROW_SHIFT + _ROW_BITS
_MAP_SHIFT = _CHANNEL_SHIFT + _CHANNEL_BITS
ZERO = -1
"""The origin of an element that is zero whatever the network's weights."""


class Unstructured(Exception):  # noqa: N818  # becomes an UnsupportedOperation with its place
    """The elements of a tensor are not shifted feature maps."""


def of_map(number: int, channels: int, height: int, width: int) -> Origins:
    """Return the origins of a feature map's elements, ``[channels, height, width]``."""
    if height > MAX_SIDE or width > MAX_SIDE or channels > MAX_CHANNELS:
        raise Unstructured(f"has {channels} channels of {height} x {width}, which is too large")
    channel = np.arange(channels, dtype=np.int64)[:, None, None] << _CHANNEL_SHIFT
    return (number << _MAP_SHIFT) + channel + _grid(height, width)


def of_given(source: int, shape: tuple[int, ...]) -> Origins:
    """Return the origins of the elements of given tensor number `source`, which is at least 1."""
    count = math.prod(shape)
    return (-1 - ((source << _ELEMENT_BITS) + np.arange(count, dtype=np.int64))).reshape(shape)


def given_parts(origins: Origins) -> tuple[Origins, Origins]:
    """Return the source numbers and element numbers of negative origins; source 0 is zero."""
    flat = -1 - origins
    return flat >> _ELEMENT_BITS, flat & ((1 << _ELEMENT_BITS) - 1)


def parts(origins: Origins) -> tuple[Origins, Origins, Origins, Origins]:
    """Return map, channel, row and column of origins >= 0."""
    return (
        origins >> _MAP_SHIFT,
        (origins >> _CHANNEL_SHIFT) & (MAX_CHANNELS - 1),
        (origins >> _ROW_SHIFT) & ((1 << _ROW_BITS) - 1),
        origins & ((1 << _COL_BITS) - 1),
    )


def _grid(height: int, width: int) -> Origins:
    rows = np.arange(height, dtype=np.int64)[:, None] << _ROW_SHIFT
    return rows + np.arange(width, dtype=np.int64)


@dataclass(frozen=True)
class Reads:
    """The reads of feature maps by the channels of a tensor ``[channels, height, width]``.

    Channel k at (y, x) is channel ``channel[k]`` of map ``map[k]`` at (y + dr[k], x + dc[k]).
    """

    map: Origins
    channel: Origins
    dr: Origins
    dc: Origins

    def __len__(self) -> int:
        return len(self.map)

    def __getitem__(self, chosen: slice | Origins | list[int]) -> "Reads":
        return Reads(self.map[chosen], self.channel[chosen], self.dr[chosen], self.dc[chosen])

    def is_whole(self, number: int, channels: int) -> bool:
        """Return True if these are all channels of a map in order, without an offset."""
        return (
            len(self) == channels
            and bool((self.map == number).all())
            and not self.dr.any()
            and not self.dc.any()
            and bool((self.channel == np.arange(channels)).all())
        )

    def distinct(self) -> list[tuple[int, int, int]]:
        """Return the distinct (map, dr, dc), in order of appearance."""
        return list(
            dict.fromkeys(zip(self.map.tolist(), self.dr.tolist(), self.dc.tolist(), strict=True))
        )


def reads_of(origins: Origins) -> tuple[Reads, NDArray[np.bool_]]:
    """Return what the channels of ``[channels, height, width]`` read, and which elements do so.

    Channels without any element of a feature map have the map -1.

    Raises:
        Unstructured: the elements of a channel come from several channels or offsets.
    """
    channels, height, width = origins.shape
    inside = origins >= 0
    flat = inside.reshape(channels, -1)
    first = flat.argmax(1)
    value = origins.reshape(channels, -1)[np.arange(channels), first]
    exists = value >= 0
    y, x = np.divmod(first, width)
    number, channel, row, col = parts(np.where(exists, value, 0))
    base = value - (y << _ROW_SHIFT) - x
    if not ((origins - _grid(height, width) == base[:, None, None]) | ~inside)[exists].all():
        raise Unstructured("rearranges positions or mixes feature maps within a channel")
    number = np.where(exists, number, -1)
    return Reads(
        number, channel, np.where(exists, row - y, 0), np.where(exists, col - x, 0)
    ), inside


@dataclass(frozen=True)
class Layout:
    """The order of channels, rows and columns in a tensor.

    Attributes:
        shape: the tensor's shape.
        split: the shape in which each dimension is either channels, rows or columns.
        roles: "C", "H" or "W" for each of them.
    """

    shape: tuple[int, ...]
    split: tuple[int, ...]
    roles: str

    @property
    def _order(self) -> list[int]:
        return [i for role in "CHW" for i, own in enumerate(self.roles) if own == role]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Return the numbers of channels, rows and columns."""
        sizes = {
            role: math.prod(n for n, own in zip(self.split, self.roles, strict=True) if own == role)
            for role in "CHW"
        }
        return sizes["C"], sizes["H"], sizes["W"]

    def canonical(self, origins: Origins) -> Origins:
        """Return ``[channels, height, width]`` for a tensor with this layout."""
        return origins.reshape(self.split).transpose(self._order).reshape(self.sizes)

    def restored(self, canonical: Origins) -> Origins:
        """Return a tensor with this layout from ``[channels, height, width]``."""
        order = self._order
        inner = canonical.reshape([self.split[i] for i in order])
        return inner.transpose(np.argsort(order)).reshape(self.shape)


def plain_layout(shape: tuple[int, ...]) -> Layout:
    """Return the layout ``[..., H, W]``, or channels alone for fewer than three dimensions."""
    roles = "C" * len(shape) if len(shape) < 3 else "C" * (len(shape) - 2) + "HW"
    return Layout(shape, shape, roles)


def layout_of(origins: Origins) -> Layout:
    """Find the layout of a tensor from its elements.

    The layout is read along lines through one element, so the caller must check all elements, for
    example by `reads_of`.

    Raises:
        Unstructured: positions do not follow each other along any dimension.
    """
    found = np.flatnonzero(origins.reshape(-1) >= 0)
    if not len(found):
        return plain_layout(origins.shape)
    at = np.unravel_index(found[len(found) // 2], origins.shape)
    split: list[int] = []
    roles: list[str] = []
    for dim in range(origins.ndim):
        line = origins[tuple(slice(None) if d == dim else at[d] for d in range(origins.ndim))]
        for size, role in _roles(line):
            split.append(size)
            roles.append(role)
    plain = plain_layout(origins.shape).roles
    unsplit = len(split) == origins.ndim
    for i, role in enumerate(roles):
        if role == "?":
            wanted = plain[i] if unsplit else "C"
            roles[i] = wanted if wanted == "C" or wanted not in roles else "C"
    if roles.count("H") > 1 or roles.count("W") > 1:
        raise Unstructured("rearranges positions")
    return Layout(origins.shape, tuple(split), "".join(roles))


def _roles(line: Origins) -> list[tuple[int, str]]:
    """Return the sizes and roles of the dimensions that are flattened along a line."""
    size = len(line)
    if size == 1:
        return [(1, "C")]
    kinds = [_kind(a, b) for a, b in itertools.pairwise(line.tolist())]
    known = [kind for kind in kinds if kind != "?"]
    if not known:
        return [(size, "?")]
    inner = known[0]
    if inner == "X":
        raise Unstructured("rearranges positions")
    run = next((i + 1 for i, kind in enumerate(kinds) if kind not in ("?", inner)), size)
    if run == size:
        return [(size, inner)]
    if size % run:
        raise Unstructured("rearranges positions")
    return [*_roles(line[::run]), (run, inner)]


def _kind(a: int, b: int) -> str:
    """Return which of channel, row and column changes between two neighbors of a line."""
    if a < 0 or b < 0:
        return "?"
    if (a ^ b) < (1 << _CHANNEL_SHIFT) and a != b:
        return {1: "W", 1 << _ROW_SHIFT: "H"}.get(b - a, "X")
    same_position = (a ^ b) & ((1 << _CHANNEL_SHIFT) - 1) == 0
    return "C" if same_position or a >> _MAP_SHIFT != b >> _MAP_SHIFT else "X"
