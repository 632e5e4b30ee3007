"""Files that are written whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

PARTIAL = ".partial"


def write_whole(path: Path, data: bytes) -> None:
    """Write one file; see `write_all_whole`."""
    write_all_whole({path: data})


def write_all_whole(files: Mapping[Path, bytes]) -> None:
    """Write each beside its place and flush it to the disk; when all are, move them into place.

    So a full disk or an interrupt leaves neither a half-written file nor half of the files.

    Raises:
        OSError: a file cannot be written, and the message names it; where that shows before the
            last step, which only renames, what stood at the paths before still does.
    """
    partials = {path: path.with_name(f".{path.name}-{os.getpid()}{PARTIAL}") for path in files}
    path = Path()
    try:
        for path, data in files.items():
            with open(partials[path], "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, partial in partials.items():
            os.replace(partial, path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Remove what processes that were killed have left; none may be writing to the folder now."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)
