"""Sources of images: a folder, an idx file, a Hugging Face data set."""

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
    """A sequence of images that are read one by one, in a fixed order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        """Return the image's name for messages and the image, RGB or gray.

        Raises:
            ValueError, OSError: the image cannot be read; the message names it.
        """

    def fingerprint(self) -> str:
        """Return a string that changes if the images may have changed, without decoding any."""


def open_source(where: str | os.PathLike[str], size: int) -> Source:
    """Open the images at `where`.

    Args:
        where: a folder (see `Folder`, `open_saved`, `find_idx`), a file (see `Idx`), or "hf:NAME"
            or "hf:NAME#SPLIT" (see `open_named`).
        size: minimum side of the images, checked for an idx file, whose images all have one size.
    Raises:
        ValueError, OSError: `where` is none of these, or cannot be opened; the message says why.
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
    """Return the shorter side of the images if all have one size below `default`, else `default`.

    Reading stops at the first image that is as large as `default` or differs in size from the one
    before. Images that cannot be read are ignored.

    Raises:
        ValueError, OSError: the source cannot be opened, or its length cannot be read.
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
    """The files below a folder, sorted by path; hidden files and folders are skipped.

    Links to folders are followed. A folder that is reachable by several paths is read once: by its
    path without links if there is one, else by the first link in path order.
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
            for folder, folders, names in os.walk(start):  # follows no links below `start`
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
"""The endings of image files; label files have idx1 instead."""


class Idx:
    """The gray images of one `*-images-idx3-ubyte` file, gzipped or not.

    The file is read on the first access to an image or to the length.

    Args:
        size: minimum side of the images; all images of a file have one size.
    Raises:
        ValueError: raised on the first access, if the file holds labels, is damaged or not an idx
            file, does not have the length that its header implies, or has too small images.
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
        """The images, uint8 ``[N, rows, columns]``, memory-mapped."""
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
            # Stop after the length that the header implies: a small gzip file can unpack to any
            # length.
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
            f"{expected:,} bytes, but it holds {holds}"
        )


def find_idx(folder: Path) -> Path | None:
    """Return the one idx file of images in a folder, found by its name, or None.

    Files of labels are ignored.

    Raises:
        ValueError: there are several idx files of images.
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
    """Return a digest of the `str` of each part, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        text = os.fsencode(str(part))
        digest.update(b"%d:" % len(text) + text)  # the length separates the parts unambiguously
    return digest.hexdigest()[:32]


def file_facts(path: Path) -> str:
    """Return the size, modification time and permissions of a file as one string.

    Permissions are included because a file that was skipped as unreadable may be readable now.
    """
    try:
        facts = path.stat()
    except OSError as error:  # a broken link
        return f"errno {error.errno}"
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_mode}"
