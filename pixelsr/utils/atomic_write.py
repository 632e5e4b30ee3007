"""Files that are written whole or not at all, and the checks before the work begins."""

import os
import uuid
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
    # Short names, for a name of the greatest length has no room for more.
    partials = {path: path.with_name(f".{uuid.uuid4().hex}{PARTIAL}") for path in files}
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


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the path without links; links that lead to each other stay as they are."""
    return Path(os.path.realpath(path))


def check_makeable(folder: Path, use: str) -> Path:
    """Check that a folder exists or can be made, as far as names and links tell; make nothing.

    Args:
        use: what an error says that the folder is for.
    Returns:
        the folder, or the nearest above it that exists.
    Raises:
        OSError: a file, or a link that leads nowhere, is in the way, or a name is too long.
    """
    missing = []
    for path in (folder, *folder.absolute().parents):
        if os.path.lexists(path):
            break
        missing.append(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is a link that leads nowhere, expected a folder for {use}")
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, expected a folder for {use}")
    for new in missing:
        check_name(new, path)
    return path


def check_name(path: Path, folder: Path) -> None:
    """Check that the name of a path is not too long.

    Args:
        folder: one that exists on the same file system.
    Raises:
        OSError: it is.
    """
    length, limit = len(os.fsencode(path.name)), os.pathconf(folder, "PC_NAME_MAX")
    if length > limit:
        raise OSError(
            f"{path} cannot be written: its name has {length} bytes, expected at most {limit}"
        )
