"""Image features that Pillow lacks: detection of truncated files, HEIC, color profiles."""

import functools
import importlib
import importlib.util
import io
import random
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

_GRAY = {127, 128}  # the intensities of a block without data, in every channel
_END, _SCAN = 0xD9, 0xDA
_MARKER = re.compile(
    rb"\xff[^\x00\xd0-\xd7\xff]"
)  # a marker within a scan: neither a stuffed byte nor a restart
_NOISE = bytes(random.Random(0).choices(range(255), k=256))


def probe(image: Image.Image, source: Path | io.BytesIO) -> io.BytesIO | None:
    """Return a copy of a JPEG with noise after its last scan, if its last rows may be missing.

    A decoder ignores bytes after the last block, so the noise changes the decoded image only if
    data are missing.

    Args:
        image: the image as Pillow loaded it.
        source: the file that it came from.
    Returns:
        The file with noise; None if the last pixel is not mid gray, the color of pixels without
        data, or if the end of the scans is not found.
    """
    pixel = image.getpixel((image.width - 1, image.height - 1))
    if not set(pixel if isinstance(pixel, tuple) else (pixel,)) <= _GRAY:
        return None
    data = source.read_bytes() if isinstance(source, Path) else source.getvalue()
    end = _end_of_scans(data)
    return None if end is None else io.BytesIO(data[:end] + _NOISE + data[end:])


def _end_of_scans(data: bytes) -> int | None:
    """Return the position of the marker that ends the image, or None if it is not found."""
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


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
_ADAM7 = (  # of each pass: left, top, horizontal step, vertical step
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
    """Return True if a PNG's data are long enough for its size.

    Pillow fills missing rows with zeros, interlaced or not. So the file is read again only if one
    of the last two rows is all zeros.

    Args:
        image: the image as Pillow loaded it.
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
    stream = zlib.decompressobj(-zlib.MAX_WBITS)  # raw deflate: no checksum, as in Pillow
    while missing > 0 and (rows := stream.decompress(packed, _AT_A_TIME)):
        missing -= len(rows)
        packed = stream.unconsumed_tail
    return missing <= 0


def _expected(width: int, height: int, depth: int, kind: int, *rest: int) -> int:
    """Return the number of bytes of all rows, each preceded by its filter type."""
    bits, interlaced = depth * _CHANNELS[kind], rest[-1]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, right, down in passes:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and body of each chunk."""
    start = 8
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        yield kind, data[start + 8 : start + 8 + length]
        start += 12 + length


FORMAT = "HEIF"
"""Pillow's name for HEIC once pillow-heif is registered."""
_HEVC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_GENERAL = {b"mif1", b"mif2", b"msf1"}  # brands of both HEVC and AVIF; Pillow reads AVIF
_AVIF = {b"avif", b"avis"}
_BEGINNING = 256


def is_heif(source: Path | io.BytesIO) -> bool:
    """Return True if the content begins like a HEIC file; the file's name does not matter.

    A HEIC file begins with an `ftyp` box that has an HEVC brand, or a general brand without AVIF
    among the compatible ones. Return False if the file cannot be read.
    """
    beginning = _beginning(source)
    if beginning[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(beginning[:4], "big"), len(beginning))
    brand = beginning[8:12]
    compatible = {beginning[k : k + 4] for k in range(16, end, 4)}
    return brand in _HEVC or (brand in _GENERAL and not compatible & _AVIF)


def _beginning(source: Path | io.BytesIO) -> bytes:
    if isinstance(source, io.BytesIO):
        return source.getvalue()[:_BEGINNING]
    try:
        with open(source, "rb") as file:
            return file.read(_BEGINNING)
    except OSError:
        return b""


def is_installed() -> bool:
    """Return True if pillow-heif is installed, without importing it."""
    return importlib.util.find_spec("pillow_heif") is not None


@functools.cache
def register() -> None:
    """Register pillow-heif, so that Pillow can read `FORMAT`.

    Raises:
        ImportError: pillow-heif is not installed, or does not work.
    """
    importlib.import_module("pillow_heif").register_heif_opener()


_GRAYS = "L", "I;16"
_STEPS = np.arange(0, 256, 15, dtype=np.uint8)  # test levels of each color; include 0 and 255
_NEAR = 1  # largest change, in levels of 255, that an sRGB profile makes by rounding


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """Convert an image from its ICC profile to sRGB.

    Args:
        image: an image of mode L, I;16, RGB or CMYK.
        profile: the bytes of the image's profile, or None.
    Returns:
        The image as 8-bit RGB; None if its numbers should be taken as sRGB, because the profile
        is missing, sRGB itself, damaged, or made for another kind of image.
    """
    transform = _transform(profile, image.mode) if profile else None
    return None if transform is None else transform.apply(image)


@functools.lru_cache(maxsize=16)  # the images of one camera all have the same profile
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    srgb = ImageCms.createProfile("sRGB")
    # Optimized tables would make dark grays wrong by up to 10 levels.
    flags = ImageCms.Flags.NOOPTIMIZE if mode in _GRAYS else ImageCms.Flags.NONE
    try:
        transform = ImageCms.buildTransform(io.BytesIO(profile), srgb, mode, "RGB", flags=flags)
    except ImageCms.PyCMSError:
        return None
    return None if _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return True if no color changes by more than the rounding of a profile."""
    if mode == "CMYK":
        return False
    if mode in _GRAYS:
        grays = np.arange(256, dtype=np.uint8)[None]
        before = grays[..., None].repeat(3, -1)
        probe = grays if mode == "L" else grays * np.uint16(257)
    else:  # a grid of colors over the whole cube
        before = probe = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), -1).reshape(1, -1, 3)
    after = np.asarray(transform.apply(Image.fromarray(probe)))
    return int(np.abs(after.astype(int) - before).max()) <= _NEAR
