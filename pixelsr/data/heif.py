"""HEIC, the pictures of phones: read by pillow-heif, which need not be installed."""

import functools
import importlib
import importlib.util
import io
from pathlib import Path

FORMAT = "HEIF"
"""Pillow's name of the format, once pillow-heif is registered."""
_HEVC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_GENERAL = {b"mif1", b"mif2", b"msf1"}  # of HEVC, or of AVIF, which Pillow reads
_AVIF = {b"avif", b"avis"}
_BEGINNING = 256


def is_heif(source: Path | io.BytesIO) -> bool:
    """Return True where the content, whatever its name, begins as HEIC files do.

    That is a box `ftyp` of a brand of HEVC, or of a general one beside which AVIF is not named.
    False for a file that cannot be read.
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
    """Return True where pillow-heif is installed; it is not imported."""
    return importlib.util.find_spec("pillow_heif") is not None


@functools.cache
def register() -> None:
    """Let Pillow read `FORMAT`.

    Raises:
        ImportError: pillow-heif is not installed, or does not work.
    """
    importlib.import_module("pillow_heif").register_heif_opener()
