"""Prepared images, kept on the disk for the next start."""

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

from pixelsr.utils.atomic_write import write_whole


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


class Prepared(NamedTuple):
    """Images, and what was said of those left out."""

    images: Tensor  # uint8 [N, C, S, S]
    skipped: list[str]


class Store:
    """A folder that keeps one set of images: a raw file, and `images.json`, written last.

    The raw file's name has the fingerprint in it, so that processes which write at once, even
    different images, never mix them; the folder then keeps those of one process.

    Args:
        folder: made where it is missing.
        fingerprint: of the images and of all that their preparation depends on.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        self.raw, self.facts = folder / f"images-{fingerprint}.raw", folder / "images.json"

    def read(self) -> Prepared | None:
        """What is kept; None where that is nothing, or other images, or damaged."""
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
        """Let `prepare` fill a file, and keep that in the place of whatever is kept.

        Raises:
            OSError: the folder cannot be written, or its disk is full; nothing is left behind.
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
        except FileNotFoundError:  # swept: another process has just kept its own
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
        """Remove what other images, and processes that were killed, have left."""
        for pattern in ("images-*.raw", ".images-*.partial"):
            for path in self.folder.glob(pattern):
                if path != self.raw:
                    with contextlib.suppress(OSError):
                        path.unlink()
