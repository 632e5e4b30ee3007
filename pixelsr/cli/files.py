"""The photos that a command reads, and the files that it writes."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import click
from PIL import Image
from torch import Tensor

from pixelsr.data.crop import from_tensor
from pixelsr.data.image_io import open_image, save_image
from pixelsr.data.quantize import from_levels
from pixelsr.data.sources import Folder
from pixelsr.utils.atomic_write import check_makeable, check_name, real_path
from pixelsr.utils.contact_sheet import MAX_ROWS

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Photo:
    """A file to read; `named` is false if the user named only a folder above it."""

    path: Path
    named: bool


def find_photos(paths: Sequence[Path], out: Path) -> list[Photo]:
    """Return the files among `paths` and below the folders among them, sorted.

    Hidden files are skipped, and so are files below `out`, which an earlier run wrote.

    Raises:
        ValueError: a folder without a file.
    """
    photos: list[Photo] = []
    for path in paths:
        if not path.is_dir():
            photos.append(Photo(path, named=True))
            continue
        found = [Photo(file, named=False) for file in _below(path, out)]
        if not found:
            raise ValueError(f"{path} is a folder without an image")
        photos += found
    return photos


def _below(folder: Path, out: Path) -> Iterator[Path]:
    written = real_path(out)
    own = written if real_path(folder) in written.parents else None
    for file in Folder(folder).paths:
        if own not in real_path(file).parents:
            yield file


def read_photos(
    photos: Sequence[Photo], prepare: Callable[[Path, Image.Image], T]
) -> tuple[list[Path], list[T]]:
    """Prepare each photo, with one in memory at a time.

    A photo of a folder that cannot be read or prepared is reported on stderr and skipped.

    Returns:
        the paths of the photos that are used, and the result of `prepare` for each.
    Raises:
        ValueError, OSError: of a photo that the user named; or there is none that can be used.
    """
    paths, made = [], []
    for photo in photos:
        try:
            prepared = prepare(photo.path, open_image(photo.path))
        except (ValueError, OSError) as error:
            if photo.named:
                raise
            click.echo(f"skipped: {error}", err=True)
            continue
        paths.append(photo.path)
        made.append(prepared)
    if not made:
        raise ValueError("none of the files found is an image that can be used")
    return paths, made


SHEET = "sheet.png"


def check_folder(folder: Path) -> None:
    """Check that `folder` can be written to, or created; nothing is created yet.

    Raises:
        OSError: it is a file or a link that leads nowhere, lies in one or in a folder that is
            closed to this user, or has a name that is too long.
    """
    nearest = check_makeable(folder, "the images")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written: no permission to write to {nearest}")


def check_files(outputs: Iterable[Path], inputs: Sequence[Path]) -> None:
    """Check that outputs can be written, and that none of them is an input.

    Args:
        outputs: in folders that `check_folder` has passed.
    Raises:
        OSError: one is a folder or one of the inputs, or has a name that is too long.
    """
    kept = {real_path(path) for path in inputs}
    for path in outputs:
        check_name(path, check_makeable(path.parent, "the images"))
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder, and would have to be written as a file")
        if real_path(path) in kept:
            raise FileExistsError(f"{path} is one of the inputs, and would be written over")


def check_file(path: Path) -> None:
    """Check that one file can be written; its folder may be missing.

    Raises:
        OSError: as `check_folder` and `check_files`.
    """
    check_folder(path.parent)
    check_files([path], [])


def photo_files(
    out: Path, photos: Sequence[Path], samples: int, inputs: Sequence[Path]
) -> list[Path]:
    """Return a file for each sample of each photo, OUT/<photo>-1.png and so on, after a check.

    Raises:
        OSError: as `check_files`.
    """
    files = [out / f"{name}-{k + 1}.png" for name in unique_names(photos) for k in range(samples)]
    check_files([*files, out / SHEET], inputs)
    return files


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the stems of the paths, made unique by numbers: face, face_2, face_3."""
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


class Writer:
    """A writer of images as they are drawn, each whole or not at all.

    If one image cannot be written, the others still are.

    Args:
        out: the folder, made with the first image.
        files: of all images.
        levels: of the model that draws them.
    """

    def __init__(self, out: Path, files: Sequence[Path], levels: int) -> None:
        self.out, self.files, self.levels = out, files, levels
        self.written = 0
        self.error: OSError | None = None

    def write(self, first: int, images: Tensor) -> None:
        """Write some images into their files.

        Args:
            first: number of the first image, from 0.
            images: uint8 ``[N, C, H, W]``, in the model's levels.
        Raises:
            OSError: not one of them can be written; the message names the first.
        """
        if not len(images):
            return
        before = self.written
        made = not self.out.exists()
        self.out.mkdir(parents=True, exist_ok=True)
        files = self.files[first : first + len(images)]
        for path, image in zip(files, from_levels(images, self.levels), strict=True):
            self.written += self._save(path, from_tensor(image))
        if self.written == before:
            if made:
                with contextlib.suppress(OSError):
                    self.out.rmdir()
            self._raise()

    def close(self, sheet: Image.Image) -> None:
        """Write the sheet.

        Raises:
            OSError: it, or an image before it, cannot be written; the message names the first.
        """
        self._save(self.out / SHEET, sheet)
        self._raise()

    def _save(self, path: Path, image: Image.Image) -> bool:
        try:
            save_image(image, path)
        except OSError as error:
            self.error = self.error or error
            return False
        return True

    def _raise(self) -> None:
        if self.error is None:
            return
        if not self.written:
            raise self.error
        raise OSError(
            f"{self.error}; {self.written:,} of {len(self.files):,} images are in {self.out}"
        ) from None


def summary(out: Path, images: int, shown: str) -> str:
    """Return the last line of a command, which says what was written and what the sheet shows."""
    count = "1 image" if images == 1 else f"{images:,} images"
    return f"{count} in {out}, {shown}side by side in {out / SHEET}"


def photo_summary(out: Path, photos: int, samples: int) -> str:
    """Return the last line of a command that draws `samples` images for each photo."""
    shown = "" if photos <= MAX_ROWS else f"those of the first {MAX_ROWS} photos "
    return summary(out, photos * samples, shown)
