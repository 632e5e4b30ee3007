"""A disk cache of prepared images."""

import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from pixelsr.utils.atomic_write import naming, write_whole


class RawFile:
    """A file of uint8 image data.

    Args:
        file: an empty file, open for reading and writing, unbuffered: a buffer would be written on
            close, where an error for a full disk comes too late.
        where: the file's location, for messages.
    """

    def __init__(self, file: FileIO, where: str) -> None:
        self.file, self.where = file, where

    @classmethod
    @contextlib.contextmanager
    def temporary(cls) -> Iterator[Self]:
        """Open a file without a name, which disappears when it is no longer in use."""
        where = f"a temporary file in {tempfile.gettempdir()}"
        with naming(where):
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, closed below
        with file:
            yield cls(file, where)

    def append(self, values: bytes) -> None:
        """Append bytes to the file.

        Raises:
            OSError: the disk is full.
        """
        rest = memoryview(values)
        with naming(self.where):
            while rest:
                rest = rest[self.file.write(rest) :]

    def flush(self) -> None:
        """Wait until all data are on the disk."""
        with naming(self.where):
            os.fsync(self.file.fileno())

    def map(self, shape: tuple[int, ...]) -> np.ndarray:
        return map_file(self.file, shape)


def map_file(file: FileIO, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """Map the bytes from `offset` on as uint8 of this shape; writes to the array stay in memory.

    The file may be closed and removed while the array exists.
    """
    return np.memmap(file, np.uint8, "c", offset, shape)


class Prepared(NamedTuple):
    """The prepared images, and the messages about skipped ones."""

    images: Tensor  # uint8 [N, C, S, S]
    skipped: list[str]


class Store:
    """A cache folder for one set of images: a raw file, and `images.json`, written last.

    The raw file's name contains the fingerprint, so that concurrent processes never mix their
    images; in the end the folder holds the images of one process.

    Args:
        folder: the folder; created if it is missing.
        fingerprint: fingerprint of the images and of everything that their preparation depends on.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        self.raw, self.facts = folder / f"images-{fingerprint}.raw", folder / "images.json"

    def read(self) -> Prepared | None:
        """Return the cached images; None if the cache is empty, damaged or of other images."""
        try:
            facts = json.loads(self.facts.read_bytes())
            if facts["fingerprint"] != self.fingerprint:
                return None
            with open(self.raw, "rb", buffering=0) as file:
                images = torch.from_numpy(map_file(file, tuple(facts["shape"])))
            return Prepared(images, facts["skipped"])
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def write(self, prepare: Callable[[RawFile], Prepared]) -> Prepared:
        """Let `prepare` fill a file, and replace the cached images by it.

        Raises:
            OSError: the folder cannot be written, or its disk is full; no partial file remains.
        """
        partial = self.folder / f".images-{uuid.uuid4().hex}.partial"
        with naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(partial, "x+b", buffering=0)  # noqa: SIM115, closed below
        try:
            with file:
                raw = RawFile(file, str(self.folder))
                prepared = prepare(raw)
                raw.flush()
            self._keep(partial, prepared)
        finally:
            partial.unlink(missing_ok=True)
        return prepared

    def _keep(self, partial: Path, prepared: Prepared) -> None:
        try:
            os.replace(partial, self.raw)
        except FileNotFoundError:  # another process has just cached its images, and swept this file
            return
        facts = {
            "fingerprint": self.fingerprint,
            "shape": list(prepared.images.shape),
            "skipped": prepared.skipped,
        }
        try:
            write_whole(self.facts, json.dumps(facts).encode())
        except OSError:
            self.raw.unlink(missing_ok=True)
            raise
        self._sweep()

    def _sweep(self) -> None:
        """Remove the files of other images, and of processes that were killed."""
        for pattern in ("images-*.raw", ".images-*.partial"):
            for path in self.folder.glob(pattern):
                if path != self.raw:
                    with contextlib.suppress(OSError):
                        path.unlink()
