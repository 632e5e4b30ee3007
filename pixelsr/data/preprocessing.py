"""Parallel preparation of images: center squares of one size."""

import signal
from collections.abc import Generator, Iterator
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pixelsr.utils.signals import end_signals

from .crop import area_resize, center_square, to_tensor
from .sources import Source

_AT_A_TIME = 16


class Batch(NamedTuple):
    """A batch of prepared images."""

    images: int  # number of images, with the skipped ones
    values: bytes  # the squares, one after another
    skipped: list[str]  # a sentence for each skipped image


class Squares(Dataset[Tensor | str]):
    """The center squares of images, reduced by area average; a square of `size` is kept exactly.

    An item is uint8 ``[colors, size, size]``, or a sentence that says why the image is skipped:
    unreadable, or too small.
    """

    def __init__(self, source: Source, size: int, colors: int) -> None:
        self.source, self.size, self.colors = source, size, colors

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Tensor | str:
        try:
            return self._square(*self.source[index])
        except (ValueError, OSError) as error:
            return f"skipped: {error}"

    def _square(self, name: str, image: Image.Image) -> Tensor:
        size = self.size
        if min(image.size) < size:
            raise ValueError(f"{name} is {image.width}x{image.height}, smaller than {size}x{size}")
        cut = image.crop(center_square(image.size))
        square = to_tensor(cut.convert("L" if self.colors == 1 else "RGB"))  # [C, S, S]
        return square if square.shape[-1] == size else area_resize(square, size)


def batches(squares: Squares, workers: int) -> Generator[Batch]:
    """Yield all squares in order, made by `workers` processes, or by this process if it is 0.

    The processes start at the call, before the caller has other threads, and end when the generator
    is closed.

    Raises:
        ChildProcessError: a process was killed; raised while the batches are read.
    """
    needed = -(-len(squares) // _AT_A_TIME)
    loader = DataLoader(
        squares,
        _AT_A_TIME,
        num_workers=min(workers, needed),
        collate_fn=_collate,
        worker_init_fn=_reset_signals,
        generator=torch.Generator(),  # otherwise the global generator would advance
    )
    return _naming_a_killed_worker(iter(loader))


def _collate(items: list[Tensor | str]) -> Batch:
    """Collate to bytes, which use a pipe; tensors would use shared memory, which is scarce."""
    values = b"".join(item.numpy().tobytes() for item in items if isinstance(item, Tensor))
    return Batch(len(items), values, [item for item in items if isinstance(item, str)])


def _reset_signals(worker: int) -> None:
    """Ignore Ctrl-C and SIGHUP, which a terminal sends to all; the parent ends its workers."""
    for number in (signal.SIGINT, *end_signals()):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _naming_a_killed_worker(made: Iterator[Batch]) -> Generator[Batch]:
    try:
        yield from made
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ChildProcessError(
            "a process that read images was killed, perhaps for lack of memory: try fewer workers"
        ) from None
