"""The photos that a command is given: files by name, and all pictures of folders."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import click
from PIL import Image

from pixelsr.data.folder import Folder
from pixelsr.data.pictures import open_picture
from pixelsr.utils.atomic_write import real_path

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Photo:
    """A file to read; `named` where the user named it, and not only a folder that holds it."""

    path: Path
    named: bool


def find_photos(paths: Sequence[Path], out: Path) -> list[Photo]:
    """The files among `paths`, and those below the folders among them, nested, sorted.

    Hidden files are passed over, and so is what lies below `out`: an earlier run wrote it.

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
            raise ValueError(f"{path} is a folder without a picture")
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
    """What `prepare` makes of each photo, one in memory at a time.

    A photo of a folder that cannot be read or prepared is named on stderr and left out.

    Returns:
        the paths of the photos that are used, and what was made of each.
    Raises:
        ValueError, OSError: of a photo that the user named; or there is none that can be used.
    """
    paths, made = [], []
    for photo in photos:
        try:
            prepared = prepare(photo.path, open_picture(photo.path))
        except (ValueError, OSError) as error:
            if photo.named:
                raise
            click.echo(f"skipped: {error}", err=True)
            continue
        paths.append(photo.path)
        made.append(prepared)
    if not made:
        raise ValueError("none of the files found is a picture that can be used")
    return paths, made
