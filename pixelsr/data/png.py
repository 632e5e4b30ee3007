"""Whether a PNG file has the data of all its rows: Pillow leaves those that are missing black."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = (  # left, top, and the steps to the right and down, of each pass
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_AT_A_TIME = 1 << 20


def has_all_rows(image: Image.Image, source: Path | io.BytesIO) -> bool:
    """Return True where a PNG's data are long enough for its size.

    Only where one of the last two rows is all zeros, as rows that are missing are, interlaced or
    not, is the file read again.

    Args:
        image: as Pillow loaded it.
        source: the file that it came from.
    """
    width, height = image.size
    rows = (image.crop((0, y, width, y + 1)) for y in range(max(0, height - 2), height))
    if all(np.asarray(row).any() for row in rows):
        return True
    return _is_long_enough(source.read_bytes() if isinstance(source, Path) else source.getvalue())


def _is_long_enough(data: bytes) -> bool:
    chunks = list(_chunks(data))
    header = next(body for kind, body in chunks if kind == b"IHDR")
    missing = _expected(*struct.unpack(">IIBBBBB", header[:13]))
    packed = b"".join(body for kind, body in chunks if kind == b"IDAT")[2:]
    stream = zlib.decompressobj(-zlib.MAX_WBITS)  # without the header: no checksum, as Pillow
    while missing > 0 and (rows := stream.decompress(packed, _AT_A_TIME)):
        missing -= len(rows)
        packed = stream.unconsumed_tail
    return missing <= 0


def _expected(width: int, height: int, depth: int, kind: int, *rest: int) -> int:
    """Bytes of all rows, each with its filter type before it."""
    bits, interlaced = depth * _CHANNELS[kind], rest[-1]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, right, down in passes:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk."""
    start = 8
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        yield kind, data[start + 8 : start + 8 + length]
        start += 12 + length
