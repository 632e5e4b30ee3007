"""The idx format of MNIST: big-endian counts, then one byte for each pixel."""

import functools
import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from pixelsr.utils.atomic_write import real_path

from .fingerprint import file_facts, fingerprint
from .raw import RawFile, map_file

PICTURES, LABELS = b"\0\0\x08\x03", b"\0\0\x08\x01"  # unsigned bytes, in 3 dimensions and in 1
_HEADER = struct.Struct(">4sIII")  # magic, pictures, rows, columns
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_NAMES = ("idx3-ubyte", "idx3-ubyte.gz")
"""How the names of files of pictures end; those of labels have idx1."""


class Idx:
    """The grey pictures of one `*-images-idx3-ubyte` file, gzipped or not.

    The file is read when the first picture, or their number, is asked for.

    Args:
        size: side that the pictures must have at least: all of a file are of one size.
    Raises:
        ValueError: when it is read, that the file is of labels, damaged, foreign, of another length
            than its header tells, or of pictures that are too small.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        return f"{self.path}, picture {index}", Image.fromarray(self._values[index])

    def fingerprint(self) -> str:
        return fingerprint([real_path(self.path), file_facts(self.path)])

    @functools.cached_property
    def _values(self) -> np.ndarray:
        """uint8 ``[N, rows, columns]``, mapped into memory."""
        with open(self.path, "rb", buffering=0) as file:
            header = file.read(_HEADER.size)
            if header.startswith(_GZIP):
                with gzip.open(self.path) as packed, RawFile.temporary() as unpacked:
                    return self._unpack(packed, unpacked)
            shape = self._read_shape(header)
            self._check_length(shape, os.fstat(file.fileno()).st_size - _HEADER.size)
            return map_file(file, shape, _HEADER.size)

    def _unpack(self, packed: gzip.GzipFile, unpacked: RawFile) -> np.ndarray:
        try:
            shape = self._read_shape(packed.read(_HEADER.size))
            found = 0
            # Not beyond what the header tells: a few bytes of gzip can unpack to any length.
            while found <= math.prod(shape) and (chunk := packed.read(_CHUNK)):
                found += len(chunk)
                unpacked.append(chunk)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{self.path} is a damaged gzip file: {error}") from None
        self._check_length(shape, found)
        return unpacked.map(shape)

    def _read_shape(self, header: bytes) -> tuple[int, int, int]:
        if header.startswith(LABELS):
            raise ValueError(
                f"{self.path} holds labels, expected pictures: a file like "
                "train-images-idx3-ubyte.gz"
            )
        if not header.startswith(PICTURES):
            raise ValueError(
                f"{self.path} is not an idx file of pictures: expected it to begin with "
                f"{PICTURES.hex()}, found {header[:4].hex() or 'nothing'}"
            )
        if len(header) < _HEADER.size:
            raise ValueError(
                f"{self.path} is cut short: it ends within its header of {_HEADER.size} bytes"
            )
        _, pictures, rows, columns = _HEADER.unpack(header)
        if min(pictures, rows, columns) < 1:
            raise ValueError(f"{self.path} is empty: {pictures:,} pictures of {columns}x{rows}")
        if min(rows, columns) < self.size:
            raise ValueError(
                f"{self.path} holds pictures of {columns}x{rows}, "
                f"smaller than {self.size}x{self.size}"
            )
        return pictures, rows, columns

    def _check_length(self, shape: tuple[int, int, int], found: int) -> None:
        pictures, rows, columns = shape
        expected = math.prod(shape)
        if found == expected:
            return
        holds = f"only {found:,}" if found < expected else "more"
        raise ValueError(
            f"{self.path} does not fit its header: {pictures:,} pictures of {columns}x{rows} are "
            f"{expected:,} bytes, it holds {holds}"
        )


def find_idx(folder: Path) -> Path | None:
    """Return the one idx file of pictures in a folder, by its name; None where there is none.

    Files of labels are ignored.

    Raises:
        ValueError: there are several.
    """
    files = sorted(path for path in folder.iterdir() if path.name.endswith(_NAMES))
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise ValueError(
            f"{folder} holds several files of pictures, {names}: name one of them, "
            f"such as {files[-1]}"
        )
    return files[0] if files else None
