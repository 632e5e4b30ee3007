"""Atomic writing of files, and early checks of output paths."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PARTIAL = ".partial"


def write_whole(path: Path, data: bytes) -> None:
    """Write one file atomically; see `write_all_whole`."""
    write_all_whole({path: data})


def write_json(path: Path, values: Any, indent: int = 2) -> None:
    """Write JSON atomically; create the folder if it is missing.

    Raises:
        ValueError: a number is not finite.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(values, indent=indent, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def naming(where: str | Path) -> Iterator[None]:
    """Turn an OSError into one sentence that names the path that cannot be written."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{where} cannot be written: {error.strerror or error}") from None


def write_all_whole(files: Mapping[Path, bytes]) -> None:
    """Write all files to temporary names, flush them to the disk, then rename them into place.

    A full disk or an interrupt thus leaves neither a partial file nor only some of the files.

    Raises:
        OSError: a file cannot be written; the message names it. Earlier files at the paths are kept
            if this happens before the renaming.
    """
    # Temporary names do not extend the file's name, which may already have the maximum length.
    partials = {path: path.with_name(f".{uuid.uuid4().hex}{PARTIAL}") for path in files}
    try:
        for path, data in files.items():
            with naming(path), open(partials[path], "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, partial in partials.items():
            with naming(path):
                os.replace(partial, path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Remove temporary files of killed processes; no process may be writing to the folder."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the path with links resolved; circular links are kept as they are."""
    return Path(os.path.realpath(path))


def check_makeable(folder: Path, use: str) -> Path:
    """Check that a folder exists or could be created, judging by names and links alone.

    Args:
        use: the purpose of the folder, for error messages.
    Returns:
        The folder, or its nearest existing parent.
    Raises:
        OSError: a file or a broken link is in the way, or a name is too long.
    """
    missing = []
    for path in (folder, *folder.absolute().parents):
        if os.path.lexists(path):
            break
        missing.append(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is a broken link, expected a folder for {use}")
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, expected a folder for {use}")
    for new in missing:
        check_name(new, path)
    return path


def check_name(path: Path, folder: Path) -> None:
    """Check that the name of a path is not too long.

    Args:
        folder: an existing folder on the same file system.
    Raises:
        OSError: the name is too long.
    """
    length, limit = len(os.fsencode(path.name)), os.pathconf(folder, "PC_NAME_MAX")
    if length > limit:
        raise OSError(
            f"{path} cannot be written: its name has {length} bytes, expected at most {limit}"
        )
