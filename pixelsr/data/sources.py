"""Sources of images: a folder, an idx file, a data set of Hugging Face."""

import functools
import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from pixelsr.utils.atomic_write import real_path

from .cache import RawFile, map_file
from .hugging_face import PREFIX, is_saved, open_named, open_saved
from .image_io import open_image


class Source(Protocol):
    """Images that are read one by one, in an order that never changes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        """An image, RGB or gray, and its name for messages.

        Raises:
            ValueError, OSError: it cannot be read; the message names it.
        """

    def fingerprint(self) -> str:
        """Differs where the images may differ; takes no decoding."""


def open_source(where: str | os.PathLike[str], size: int) -> Source:
    """The images at `where`: a folder (see `Folder`, `open_saved`, `find_idx`), a file (see
    `Idx`), or "hf:NAME", "hf:NAME#SPLIT" (see `open_named`).

    Args:
        size: side that images must have at least, for a file whose images are all of one size.
    Raises:
        ValueError, OSError: it is none of these, or cannot be opened; the message says why.
    """
    if not str(where):
        raise ValueError("the path of the images is empty")
    path = Path(where)
    if str(where).startswith(PREFIX) and not path.exists():
        return open_named(str(where))
    if is_saved(path):
        return open_saved(path)
    if path.is_dir():
        idx = find_idx(path)
        return Idx(idx, size) if idx else Folder(path)
    if path.exists():
        return Idx(path, size)
    raise NotADirectoryError(
        f"{path} is not a folder of images, nor an idx file, nor a data set ({PREFIX}NAME)"
    )


def common_side(where: str | os.PathLike[str], default: int) -> int:
    """Return the shorter side of images that all have one size, where that is below `default`.

    Reading ends with the first image that is as large as `default` or of another size than the
    one before; images that cannot be read do not count.

    Returns:
        `default` for all other images.
    Raises:
        ValueError, OSError: as `open_source` and the source's length.
    """
    source = open_source(where, 1)
    common: tuple[int, int] | None = None
    for index in range(len(source)):
        try:
            size = source[index][1].size
        except (ValueError, OSError):
            continue
        if min(size) >= default or size != (common or size):
            return default
        common = size
    return min(common) if common else default


class Folder:
    """Every file below a folder, in the order of the sorted paths; hidden ones are passed over.

    Links to folders are followed. A folder that several paths lead to is read once: by the path
    without links, else by the first link in the order of the paths.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.paths = root, sorted(_files(root))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        path = self.paths[index]
        return str(path), open_image(path)

    def fingerprint(self) -> str:
        facts = (f"{path.relative_to(self.root)} {file_facts(path)}" for path in self.paths)
        return fingerprint([real_path(self.root), *facts])


def _files(root: Path) -> list[Path]:
    files: list[Path] = []
    seen: set[str] = set()
    starts = [root]
    while starts:
        links: list[Path] = []
        for start in starts:
            for folder, folders, names in os.walk(start):  # follows no link below its start
                if (real := os.path.realpath(folder)) in seen:
                    folders.clear()
                    continue
                seen.add(real)
                folders[:] = [name for name in folders if not name.startswith(".")]
                links += [Path(folder, name) for name in folders if Path(folder, name).is_symlink()]
                files += [Path(folder, name) for name in names if not name.startswith(".")]
        starts = sorted(links)
    return files


IMAGES, LABELS = b"\0\0\x08\x03", b"\0\0\x08\x01"  # unsigned bytes, in 3 dimensions and in 1
_HEADER = struct.Struct(">4sIII")  # magic, images, rows, columns
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20
_NAMES = ("idx3-ubyte", "idx3-ubyte.gz")
"""How the names of files of images end; those of labels have idx1."""


class Idx:
    """The gray images of one `*-images-idx3-ubyte` file, gzipped or not.

    The file is read when the first image, or their number, is asked for.

    Args:
        size: side that the images must have at least: all of a file are of one size.
    Raises:
        ValueError: when it is read, that the file is of labels, damaged, foreign, of another length
            than its header tells, or of images that are too small.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        return f"{self.path}, image {index}", Image.fromarray(self._values[index])

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
                f"{self.path} holds labels, expected images: a file like train-images-idx3-ubyte.gz"
            )
        if not header.startswith(IMAGES):
            raise ValueError(
                f"{self.path} is not an idx file of images: expected it to begin with "
                f"{IMAGES.hex()}, found {header[:4].hex() or 'nothing'}"
            )
        if len(header) < _HEADER.size:
            raise ValueError(
                f"{self.path} is cut short: it ends within its header of {_HEADER.size} bytes"
            )
        _, images, rows, columns = _HEADER.unpack(header)
        if min(images, rows, columns) < 1:
            raise ValueError(f"{self.path} is empty: {images:,} images of {columns}x{rows}")
        if min(rows, columns) < self.size:
            raise ValueError(
                f"{self.path} holds images of {columns}x{rows}, "
                f"smaller than {self.size}x{self.size}"
            )
        return images, rows, columns

    def _check_length(self, shape: tuple[int, int, int], found: int) -> None:
        images, rows, columns = shape
        expected = math.prod(shape)
        if found == expected:
            return
        holds = f"only {found:,}" if found < expected else "more"
        raise ValueError(
            f"{self.path} does not fit its header: {images:,} images of {columns}x{rows} are "
            f"{expected:,} bytes, it holds {holds}"
        )


def find_idx(folder: Path) -> Path | None:
    """Return the one idx file of images in a folder, by its name; None where there is none.

    Files of labels are ignored.

    Raises:
        ValueError: there are several.
    """
    files = sorted(path for path in folder.iterdir() if path.name.endswith(_NAMES))
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise ValueError(
            f"{folder} holds several files of images, {names}: name one of them, "
            f"such as {files[-1]}"
        )
    return files[0] if files else None


def fingerprint(parts: Iterable[object]) -> str:
    """A digest of the parts, as hexadecimal digits; each is taken as `str` gives it."""
    digest = hashlib.sha256()
    for part in parts:
        text = os.fsencode(str(part))
        digest.update(b"%d:" % len(text) + text)  # with its length, so that no two run together
    return digest.hexdigest()[:32]


def file_facts(path: Path) -> str:
    """Size, time of the last change and permissions of a file, in one string.

    Permissions, because a file that could not be read and was passed over may be readable now.
    """
    try:
        facts = path.stat()
    except OSError as error:  # a link to nowhere
        return f"errno {error.errno}"
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_mode}"
