"""Picture files: any that Pillow reads, as upright RGB; and PNGs, written whole or not at all."""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..files import write_all_whole

MAX_SIDE = 16_384
"""Pixels; a wider or higher picture is refused by its header. Pillow's limit of area holds too."""

# What Pillow's decoders raise on damaged data: each format has its own way.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_SIXTEEN_BITS = 65_535


def open_picture(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a file: RGB, 8 bits, upright as its EXIF orientation says.

    What is transparent shows white; of an animation the first frame is taken; 16 bits are scaled
    to 8, not clipped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a folder, an empty, damaged or foreign file, or a picture that is too large;
            the message names the file.
    """
    _check_file(Path(path))
    return _read(Path(path), str(path))


def decode_picture(data: bytes, name: str) -> Image.Image:
    """The picture in the bytes of a file, as `open_picture` gives it; `name` is for messages.

    Raises:
        ValueError: damaged or foreign data, or a picture that is too large; the message begins with
            the name.
    """
    return _read(io.BytesIO(data), name)


def _read(source: Path | io.BytesIO, name: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of sizes near the limit
        with _open(source, name) as image:
            _check_size(name, image.size)
            return _decode(name, image)


def save_pictures(pictures: Mapping[Path, Image.Image]) -> None:
    """Write PNG files into folders that exist, all of them whole, or none.

    Raises:
        OSError: a file cannot be written; the message names it.
    """
    write_all_whole({path: _png(image) for path, image in pictures.items()})


def save_picture(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write one PNG file, whole or not at all; see `save_pictures`."""
    save_pictures({Path(path): image})


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a picture file")
    if not path.exists():
        raise FileNotFoundError(f"no such picture: {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes), expected a picture")


def _open(source: Path | io.BytesIO, name: str) -> Image.Image:
    """Read the header alone."""
    try:
        return Image.open(source)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture, or of a kind that Pillow cannot read") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ValueError(
            f"{name} is too large: expected at most {limit} million pixels "
            f"and at most {MAX_SIDE:,} on a side"
        ) from None
    except _DAMAGED as error:
        raise ValueError(f"{name} cannot be read: {one_line(error)}") from None


def _check_size(name: str, size: tuple[int, int]) -> None:
    width, height = size
    if max(size) > MAX_SIDE:
        raise ValueError(
            f"{name} is too large: {width:,} x {height:,} pixels, "
            f"expected at most {MAX_SIDE:,} on a side"
        )
    if min(size) < 1:
        raise ValueError(f"{name} holds no pixels: {width} x {height}")


def _decode(name: str, image: Image.Image) -> Image.Image:
    try:
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))
    except _DAMAGED as error:
        raise ValueError(f"{name} cannot be decoded: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """The error in one line without the file's name, which the message already has."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any of Pillow's modes as RGB of 8 bits, over white where it is transparent."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # Pillow converts it to LA only
        image = image.convert("LA")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


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
