"""Image files: decoding of `FORMATS` to upright sRGB, and atomic writing of PNG files."""

import functools
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from pixelsr.config.choices import MAX_SIDE
from pixelsr.utils.atomic_write import write_whole

from . import image_formats
from .image_formats import to_srgb

FORMATS = (
    "PNG",
    "JPEG",  # and MPO, a JPEG file from a camera that holds several images
    "WEBP",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "PPM",  # and PGM, PBM
    "TGA",
    "ICO",
    "JPEG2000",
    "AVIF",
)
"""Pillow's names of the formats that are read; the content decides, not the file name.

Pillow's other formats are excluded, because some of them run programs: an EPS file starts
Ghostscript."""

# The exceptions that Pillow's decoders raise on damaged data; each format has its own.
_DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_SIXTEEN_BITS = 65_535


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image file of `FORMATS` as 8-bit RGB, rotated by its EXIF orientation.

    Colors are converted from the file's ICC profile to sRGB; a profile that is damaged or does not
    fit counts as sRGB. Transparent pixels are blended with white, an animation gives its first
    frame, and 16 bits are scaled to 8, not clipped. HEIC images are read too if pillow-heif is
    installed.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the path is a folder; the file is empty, damaged or of another format; the image
            is too large; or it is a HEIC image and pillow-heif is not installed. The message names
            the file.
    """
    _check_file(Path(path))
    return _read(Path(path), str(path))


def decode_image(data: bytes, name: str) -> Image.Image:
    """Decode the bytes of an image file, like `open_image`; `name` is used in messages.

    Raises:
        ValueError: the data are damaged or of another format, or the image is too large; the
            message begins with the name.
    """
    return _read(io.BytesIO(data), name)


def _read(source: Path | io.BytesIO, name: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata, and sizes near the limit
        with _open(source, name) as image:
            _check_size(name, image.size)
            return _decode(name, image, source)


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a PNG file atomically into an existing folder.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    file = io.BytesIO()
    image.save(file, format="PNG")
    write_whole(Path(path), file.getvalue())


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected an image file")
    if not path.exists():
        raise FileNotFoundError(f"no such image: {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes), expected an image")


def _open(source: Path | io.BytesIO, name: str) -> Image.Image:
    """Open an image, reading only its header."""
    formats = _heif(name) if image_formats.is_heif(source) else _formats()
    try:
        return Image.open(source, formats=formats)
    except UnidentifiedImageError:
        raise ValueError(
            f"{name} is not an image of a supported format: expected {', '.join(FORMATS)}"
        ) from None
    except Image.DecompressionBombError:
        raise _too_many_pixels(name) from None
    except _DAMAGED as error:
        raise ValueError(f"{name} cannot be read: {one_line(error)}") from None


def _heif(name: str) -> tuple[str, ...]:
    try:
        image_formats.register()
    except ImportError:
        raise ValueError(
            f"{name} is a HEIC image, which needs pillow-heif: pip install pillow-heif"
        ) from None
    return (image_formats.FORMAT,)


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats of `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _too_many_pixels(name: str) -> ValueError:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
    return ValueError(
        f"{name} is too large: expected at most {limit} million pixels "
        f"and at most {MAX_SIDE:,} on a side"
    )


def _check_size(name: str, size: tuple[int, int]) -> None:
    width, height = size
    if max(size) > MAX_SIDE:
        raise ValueError(
            f"{name} is too large: {width:,} x {height:,} pixels, "
            f"expected at most {MAX_SIDE:,} on a side"
        )
    if min(size) < 1:
        raise ValueError(f"{name} holds no pixels: {width} x {height}")


def _decode(name: str, image: Image.Image, source: Path | io.BytesIO) -> Image.Image:
    try:
        image.load()
        if not _has_all_rows(name, image, source):
            raise ValueError("its data end before the last row")
        return to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:  # from an image embedded in the file
        raise _too_many_pixels(name) from None
    except _DAMAGED as error:
        raise ValueError(f"{name} cannot be decoded: {one_line(error)}") from None


def _has_all_rows(name: str, image: Image.Image, source: Path | io.BytesIO) -> bool:
    """Return False if data are missing, for the formats where Pillow does not report it."""
    if image.format == "PNG":
        return image_formats.has_all_rows(image, source)
    probe = image_formats.probe(image, source) if image.format in ("JPEG", "MPO") else None
    if probe is None:
        return True
    with _open(probe, name) as again:
        return again.tobytes() == image.tobytes()


def one_line(error: Exception) -> str:
    """Return an error's text in one line, without the file name, which the message already has."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any of Pillow's modes to 8-bit sRGB, blended with white if transparent.

    The ICC profile is read from ``image.info["icc_profile"]``.
    """
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    colors, alpha = _without_alpha(image)
    rgb = to_srgb(colors, image.info.get("icc_profile")) or _as_rgb(colors)
    if alpha is None:
        return rgb
    rgb.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


def _without_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the colors, of mode L, I;16, I, F, RGB or CMYK, and the alpha channel or None."""
    mode = image.mode
    if mode.startswith(("I", "F")):
        values = np.asarray(image)
        return Image.fromarray(values.astype("<u2") if mode.startswith("I;16") else values), None
    if not image.has_transparency_data:
        if mode == "1":
            return image.convert("L"), None
        return (image if mode in ("L", "RGB", "CMYK") else image.convert("RGB")), None
    gray = mode in ("1", "L", "LA", "La")
    image = image.convert("LA" if gray else "RGBA")
    return image.convert("L" if gray else "RGB"), image.getchannel("A")


def _as_rgb(colors: Image.Image) -> Image.Image:
    if colors.mode.startswith(("I", "F")):
        colors = Image.fromarray(_to_8_bits(np.asarray(colors)))
    return colors.convert("RGB")


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Convert 16-bit integers, or floats from 0 to 1 (0 to 255 if any is above 1), to 8 bits.

    Numbers outside that range are stretched: the smallest becomes black, the largest white.
    """
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite")
    low, high = float(values.min()), float(values.max())
    is_float = values.dtype.kind == "f"
    white: float = (1 if high <= 1 else 255) if is_float else _SIXTEEN_BITS
    if low < 0 or high > white:
        values, white = values.astype(np.float64) - low, (high - low) or 1
    return np.rint(values.astype(np.float64) * 255 / white).astype(np.uint8)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # None only when it converts in place
    return converted
