"""Hugging Face data sets, read through their optional library `datasets`."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from .image_io import decode_image, one_line, open_image

PREFIX = "hf:"
# The files that `save_to_disk` writes.
_DATASET, _SPLITS = ("dataset_info.json", "state.json"), "dataset_dict.json"


class HuggingFace:
    """The images of a `datasets.Dataset`: its first column of type `datasets.Image`.

    Args:
        dataset: the data set; it is not modified.
        where: the data set's name in messages.
    Raises:
        ValueError: no column holds images.
    """

    def __init__(self, dataset: Any, where: str) -> None:
        image = _library(where).Image
        columns = [name for name, kind in dataset.features.items() if isinstance(kind, image)]
        if not columns:
            listed = ", ".join(f"{name} ({_kind(of)})" for name, of in dataset.features.items())
            raise ValueError(f"{where} has no column of images (Image), only: {listed or 'none'}")
        self.column, self.where = columns[0], where
        self._fingerprint = str(dataset._fingerprint)
        # Undecoded files, so that they are decoded by the same rules as images in a folder.
        files = dataset.with_format(None).cast_column(self.column, image(decode=False))
        self.files = files.select_columns(self.column)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        name = f"{self.where}, row {index}"
        file = self.files[index][self.column] or {}
        if file.get("bytes") is not None:
            return name, decode_image(file["bytes"], name)
        if file.get("path") is None:
            raise ValueError(f"{name} holds no image")
        return file["path"], open_image(file["path"])

    def fingerprint(self) -> str:
        return f"{self.where} {self._fingerprint}"


def is_saved(path: Path) -> bool:
    """Return True if `save_to_disk` wrote this folder."""
    return (path / _SPLITS).is_file() or all((path / name).is_file() for name in _DATASET)


def open_saved(path: Path) -> HuggingFace:
    """Open a folder that `datasets.Dataset.save_to_disk` wrote.

    Raises:
        ValueError: the folder is damaged, or holds several splits, each in its own folder.
    """
    where = str(path)
    datasets = _library(where)
    if (path / _SPLITS).is_file():
        splits = sorted(folder.name for folder in path.iterdir() if is_saved(folder))
        raise ValueError(f"{path} holds the splits {', '.join(splits)}: name one of these folders")
    with _one_sentence(datasets, where):
        dataset = datasets.load_from_disk(where)
    return HuggingFace(dataset, where)


def open_named(where: str) -> HuggingFace:
    """Open a data set with `datasets.load_dataset`, from the Hub or a local folder.

    Args:
        where: "hf:NAME" or "hf:NAME#SPLIT", such as "hf:mnist#train[:100]"; the split is passed to
            ``load_dataset(NAME, split=SPLIT)`` and defaults to "train".
    Raises:
        ValueError: the data set cannot be loaded.
    """
    name, _, split = where.removeprefix(PREFIX).partition("#")
    if not name:
        raise ValueError(f"{where} names no data set, expected {PREFIX}NAME or {PREFIX}NAME#SPLIT")
    datasets = _library(where)
    with _one_sentence(datasets, where), _bars_on_a_terminal_alone(datasets):
        dataset = datasets.load_dataset(name, split=split or "train")
    return HuggingFace(dataset, where)


def _library(where: str) -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise ValueError(
            f"{where} is a Hugging Face data set, which needs their library: pip install datasets"
        ) from None


@contextlib.contextmanager
def _one_sentence(datasets: Any, where: str) -> Iterator[None]:
    """Turn the library's errors for an unavailable or damaged data set into one ValueError."""
    library = datasets.exceptions.DatasetsError
    try:
        yield
    except (library, ImportError, LookupError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{where} cannot be loaded: {one_line(error)}") from None


@contextlib.contextmanager
def _bars_on_a_terminal_alone(datasets: Any) -> Iterator[None]:
    if sys.stderr.isatty() or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)
