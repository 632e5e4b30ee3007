"""Where a command writes: found out before the work, so that hours are not lost to a full name."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path


def check_folder(folder: Path) -> None:
    """That `folder` can be written to, or made; nothing is made yet.

    Raises:
        OSError: it is a file, or lies in a file or in a folder that is closed to this user.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{nearest} is a file, expected a folder for the pictures")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written: no permission to write to {nearest}")


def check_files(outputs: Iterable[Path], inputs: Sequence[Path]) -> None:
    """That no output is a folder or one of the inputs; other files may be written over.

    Raises:
        OSError: one is.
    """
    kept = {path.resolve() for path in inputs}
    for path in outputs:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder, and would have to be written as a file")
        if path.resolve() in kept:
            raise FileExistsError(f"{path} is a photo to enlarge, and would be written over")


def unique_names(paths: Sequence[Path]) -> list[str]:
    """The stems of the paths; where one comes again, with a number: face, face_2, face_3."""
    stems = {path.stem.casefold() for path in paths}
    names: list[str] = []
    used: set[str] = set()
    for path in paths:
        name, k = path.stem, 1
        while name.casefold() in used or (k > 1 and name.casefold() in stems):
            k += 1
            name = f"{path.stem}_{k}"
        used.add(name.casefold())
        names.append(name)
    return names
