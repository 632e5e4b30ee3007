"""JPEG files that lack the data of their last rows: libjpeg makes these grey without a word."""

import io
import random
import re
from pathlib import Path

from PIL import Image

_GREY = {127, 128}  # of a block without data, in every channel
_END, _SCAN = 0xD9, 0xDA
_MARKER = re.compile(
    rb"\xff[^\x00\xd0-\xd7\xff]"
)  # in a scan: neither a stuffed byte nor a restart
_NOISE = bytes(random.Random(0).choices(range(255), k=256))


def probe(image: Image.Image, source: Path | io.BytesIO) -> io.BytesIO | None:
    """Return the file with noise after its last scan, where its last rows may be missing.

    What follows the last block is ignored: the noise changes a picture only if data are missing.

    Args:
        image: as Pillow loaded it.
        source: the file that it came from.
    Returns:
        None where the last pixel is not mid grey, as pixels without data are.
    """
    pixel = image.getpixel((image.width - 1, image.height - 1))
    if not set(pixel if isinstance(pixel, tuple) else (pixel,)) <= _GREY:
        return None
    data = source.read_bytes() if isinstance(source, Path) else source.getvalue()
    end = _end_of_scans(data)
    return None if end is None else io.BytesIO(data[:end] + _NOISE + data[end:])


def _end_of_scans(data: bytes) -> int | None:
    """Return where the marker stands that ends the picture; None where that is not found."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == _END:
            return at
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == _SCAN:
            found = _MARKER.search(data, at)
            if found is None:
                return None
            at = found.start()
    return at if data[at : at + 2] == bytes([0xFF, _END]) else None
