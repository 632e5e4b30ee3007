"""Loading of images from any source into one memory-mapped tensor."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import PIL
import torch
from rich.progress import MofNCompleteColumn
from torch import Tensor

from pixelsr.utils.progress import progress_bar

from . import image_formats
from .cache import Prepared, RawFile, Store
from .preprocessing import Squares, batches
from .sources import fingerprint, open_source

_VERSION = 2  # of the preparation; a change invalidates every cache


def load_images(
    where: str | os.PathLike[str],
    size: int,
    report: Callable[[str], None],
    *,
    colors: int = 3,
    workers: int = 0,
    store: Path | None = None,
    replace: bool = True,
) -> Tensor:
    """Load all images at `where`, in a fixed order.

    Each image is cut to its center square and reduced by area average; a square of `size` x `size`
    is kept exactly. The images are prepared once, into a memory-mapped file, of which only the
    pages in use occupy memory. A progress bar is shown on stderr if that is a terminal.

    Args:
        where: a folder of images, searched recursively without hidden files; an idx file, as of
            MNIST, gzipped or not, or the folder that holds it; a folder that
            `datasets.Dataset.save_to_disk` wrote; or "hf:NAME" or "hf:NAME#SPLIT", for
            ``datasets.load_dataset(NAME, split=SPLIT)``, where SPLIT defaults to "train" and NAME
            may be a local folder.
        size: side of the images, in pixels.
        report: called with one sentence for each skipped image: unreadable, or too small.
        colors: 3, or 1 for gray.
        workers: processes that prepare images; 0 uses this process alone. The result does not
            depend on it.
        store: a folder that caches the prepared images. The next call with the same images, size
            and colors decodes nothing and reports the same sentences. A cache of other images is
            replaced. None disables caching.
        replace: False keeps an existing cache of other images, and does not cache these.
    Returns:
        uint8 ``[N, colors, size, size]``; it must not be written to.
    Raises:
        ValueError: there is no usable image; a file is damaged or of an unknown format; a file
            holds labels instead of images; a data set cannot be loaded or has no images; or an
            argument is out of range.
        OSError: nothing exists at `where`, a disk is full, or a worker was killed; no partial
            file remains.
    """
    _check(size, colors, workers)
    source = open_source(where, size)

    def prepare(file: RawFile) -> Prepared:
        return _prepare(Squares(source, size, colors), workers, report, file, f"{where}")

    if store is None:
        with RawFile.temporary() as file:
            return prepare(file).images
    # The versions determine which images can be read.
    versions = _VERSION, PIL.__version__, image_formats.is_installed()
    facts = (*versions, size, colors, type(source).__name__, source.fingerprint())
    shelf = Store(store, fingerprint(facts))
    kept = shelf.read()
    if kept is None and (replace or not shelf.facts.exists()):
        return shelf.write(prepare).images
    if kept is None:
        with RawFile.temporary() as file:
            return prepare(file).images
    for sentence in kept.skipped:
        report(sentence)
    return kept.images


def _check(size: int, colors: int, workers: int) -> None:
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if colors not in (1, 3):
        raise ValueError(f"colors must be 1 or 3, got {colors}")
    if workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")


def _prepare(
    squares: Squares, workers: int, report: Callable[[str], None], file: RawFile, where: str
) -> Prepared:
    total, skipped = len(squares), []
    bar = progress_bar(MofNCompleteColumn())
    with contextlib.closing(batches(squares, workers)) as made, bar:
        task = bar.add_task("preparing images", total=total)
        for batch in made:
            file.append(batch.values)
            for sentence in batch.skipped:
                report(sentence)
            skipped += batch.skipped
            bar.advance(task, batch.images)
    usable, side = total - len(skipped), squares.size
    if not usable:
        raise ValueError(f"{where} holds no image of at least {side}x{side} pixels")
    images = torch.from_numpy(file.map((usable, squares.colors, side, side)))
    return Prepared(images, skipped)


def spread(images: Tensor, count: int | None) -> Tensor:
    """Return `count` images at even distances, because folders are often sorted by content.

    Args:
        images: ``[N, ...]``.
        count: number of images; None, or more than N, for all.
    """
    count = min(count or len(images), len(images))
    return images[torch.arange(count) * len(images) // count]
