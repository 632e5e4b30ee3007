"""Image files: those of `FORMATS`, as upright sRGB; and PNGs, written whole or not at all."""

import functools
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from pixelsr.utils.atomic_write import write_whole

from . import image_formats
from .image_formats import to_srgb

FORMATS = (
    "PNG",
    "JPEG",  # and MPO, the JPEG of cameras that holds several
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
"""What is read, by Pillow's names and by a file's content, whatever its name is. Pillow knows more,
and some of these are programs: an EPS file starts Ghostscript."""
MAX_SIDE = 16_384
"""Pixels; a wider or higher image is refused by its header. Pillow's limit of area holds too."""

# What Pillow's decoders raise on damaged data: each format has its own way.
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
    """The image in a file of `FORMATS`: RGB, 8 bits, upright as its EXIF orientation says.

    Colors are converted from the file's ICC profile to sRGB; a profile that is damaged or does not
    fit counts as sRGB. What is transparent shows white; of an animation the first frame is taken;
    16 bits are scaled to 8, not clipped. HEIC images are read too where pillow-heif is installed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a folder, an empty, damaged or foreign file, an image that is too large, or a
            HEIC image without pillow-heif; the message names the file.
    """
    _check_file(Path(path))
    return _read(Path(path), str(path))


def decode_image(data: bytes, name: str) -> Image.Image:
    """The image in the bytes of a file, as `open_image` gives it; `name` is for messages.

    Raises:
        ValueError: damaged or foreign data, or an image that is too large; the message begins with
            the name.
    """
    return _read(io.BytesIO(data), name)


def _read(source: Path | io.BytesIO, name: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of sizes near the limit
        with _open(source, name) as image:
            _check_size(name, image.size)
            return _decode(name, image, source)


def save_image(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write a PNG file into a folder that exists, whole or not at all.

    Raises:
        OSError: it cannot be written; the message names it.
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
    """Read the header alone."""
    formats = _heif(name) if image_formats.is_heif(source) else _formats()
    try:
        return Image.open(source, formats=formats)
    except UnidentifiedImageError:
        raise ValueError(
            f"{name} is not an image, or of a kind that is not read: expected {', '.join(FORMATS)}"
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
    """Those of `FORMATS` that this Pillow was built with."""
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
    except Image.DecompressionBombError:  # of an image within the file
        raise _too_many_pixels(name) from None
    except _DAMAGED as error:
        raise ValueError(f"{name} cannot be decoded: {one_line(error)}") from None


def _has_all_rows(name: str, image: Image.Image, source: Path | io.BytesIO) -> bool:
    """Return False where data are missing of a format whose decoder in Pillow does not say so."""
    if image.format == "PNG":
        return image_formats.has_all_rows(image, source)
    probe = image_formats.probe(image, source) if image.format in ("JPEG", "MPO") else None
    if probe is None:
        return True
    with _open(probe, name) as again:
        return again.tobytes() == image.tobytes()


def one_line(error: Exception) -> str:
    """The error in one line without the file's name, which the message already has."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any of Pillow's modes as sRGB of 8 bits, over white where it is transparent.

    Its ICC profile is ``image.info["icc_profile"]``.
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
    """Colors of mode L, I;16, I, F, RGB or CMYK, and the alpha of an image that has one."""
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
    """Integers are taken as 16 bits, floats as 0 to 1, or as 0 to 255 where some are above 1.

    What does not fit is stretched: the least value becomes black, the largest white.
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
