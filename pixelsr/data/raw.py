"""A file of raw values: written as they come, then mapped into memory."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import numpy as np
from typing_extensions import Self


class RawFile:
    """Values of one byte on the disk.

    Args:
        file: empty, open for reading and writing, without a buffer: nothing is left to be written
            when it is closed, where a full disk would be found out too late to say so.
        where: the file's place, for messages.
    """

    def __init__(self, file: FileIO, where: str) -> None:
        self.file, self.where = file, where

    @classmethod
    @contextlib.contextmanager
    def temporary(cls) -> Iterator[Self]:
        """A file without a name: it is gone when nobody holds it any more, whatever happens."""
        where = f"a temporary file in {tempfile.gettempdir()}"
        with naming(where):
            file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, closed below
        with file:
            yield cls(file, where)

    def append(self, values: bytes) -> None:
        """Raises OSError where the disk is full."""
        rest = memoryview(values)
        with naming(self.where):
            while rest:
                rest = rest[self.file.write(rest) :]

    def flush(self) -> None:
        """Wait until all is on the disk."""
        with naming(self.where):
            os.fsync(self.file.fileno())

    def map(self, shape: tuple[int, ...]) -> np.ndarray:
        return map_file(self.file, shape)


def map_file(file: FileIO, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """The values from `offset` on as uint8 of this shape; what is written to them stays in memory.

    The file may be closed and removed: the memory holds it.
    """
    return np.memmap(file, np.uint8, "c", offset, shape)


@contextlib.contextmanager
def naming(where: str | Path) -> Iterator[None]:
    """Errors of the system say in one sentence what could not be written."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{where} cannot be written: {error.strerror or error}") from None
