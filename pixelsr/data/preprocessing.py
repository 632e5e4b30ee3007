"""From a source of images to squares of one size, by as many processes as wanted."""

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
    """Some images after their preparation."""

    images: int  # that were looked at
    values: bytes  # of the squares, one after another
    skipped: list[str]  # a sentence for each image that is left out


class Squares(Dataset[Tensor | str]):
    """Each image's center square, reduced by area average; one of `size` stays bit for bit.

    An item is uint8 ``[colors, size, size]``, or the sentence that says why the image is left
    out: unreadable, or too small.
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
    """All squares in their order, made by `workers` processes; by this one where there are none.

    The processes start at the call, before the caller has threads of its own, and end when the
    generator is closed.

    Raises:
        ChildProcessError: while the batches are taken, that a process was killed.
    """
    needed = -(-len(squares) // _AT_A_TIME)
    loader = DataLoader(
        squares,
        _AT_A_TIME,
        num_workers=min(workers, needed),
        collate_fn=_collate,
        worker_init_fn=_reset_signals,
        generator=torch.Generator(),  # else the global one advances
    )
    return _naming_a_killed_worker(iter(loader))


def _collate(items: list[Tensor | str]) -> Batch:
    """Bytes, because they go through a pipe: tensors would take shared memory, often scarce."""
    values = b"".join(item.numpy().tobytes() for item in items if isinstance(item, Tensor))
    return Batch(len(items), values, [item for item in items if isinstance(item, str)])


def _reset_signals(worker: int) -> None:
    """Leave Ctrl-C and SIGHUP, which a terminal sends to all, to the parent: it ends the rest."""
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
