"""Where a command writes: found out before the work, so that hours are not lost to a full name."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..data.pictures import save_pictures
from ..data.small import from_tensor
from ..sheet import MAX_ROWS

SHEET = "sheet.png"


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
            raise FileExistsError(f"{path} is one of the inputs, and would be written over")


def photo_files(
    out: Path, photos: Sequence[Path], samples: int, inputs: Sequence[Path]
) -> list[Path]:
    """A file for each sample of each photo, OUT/<photo>-1.png and so on; checked with the sheet.

    Raises:
        OSError: as `check_files`.
    """
    files = [out / f"{name}-{k + 1}.png" for name in unique_names(photos) for k in range(samples)]
    check_files([*files, out / SHEET], inputs)
    return files


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


def write_pictures(
    out: Path, files: Sequence[Path], images: Iterable[Tensor], sheet: Image.Image
) -> None:
    """Write each image, uint8 ``[C, H, W]``, into its file, and the sheet: all of them, or none.

    Raises:
        OSError: the folder or a file cannot be written; the message names it.
    """
    pictures = {path: from_tensor(image) for path, image in zip(files, images, strict=True)}
    out.mkdir(parents=True, exist_ok=True)
    save_pictures({**pictures, out / SHEET: sheet})


def summary(out: Path, pictures: int, shown: str) -> str:
    """The last line of a command: what was written where, and what of it the sheet shows."""
    count = "1 picture" if pictures == 1 else f"{pictures:,} pictures"
    return f"{count} in {out}, {shown}side by side in {out / SHEET}"


def photo_summary(out: Path, photos: int, samples: int) -> str:
    """The last line of a command that draws `samples` pictures for each photo."""
    shown = "" if photos <= MAX_ROWS else f"those of the first {MAX_ROWS} photos "
    return summary(out, photos * samples, shown)
