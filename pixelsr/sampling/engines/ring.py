"""The storage of one buffer of a plan, and views of it."""

from torch import Tensor

from ..plan import Buffer
from ..plan.steps import Initial


class Ring:
    """The last rows of some feature maps: ``[rows, N, left + W + right, channels]``.

    Views are made once: in a picture each is asked for in every row, and making one costs as much
    as the small product that reads it.

    Args:
        storage: zeros of `ring_shape`.
    """

    def __init__(self, buffer: Buffer, width: int, storage: Tensor) -> None:
        self.rows, self.left, self.width = buffer.rows, buffer.left, width + buffer.padding
        self.order = list(buffer.order)
        self._storage = storage
        self._views: dict[tuple[int, ...], Tensor] = {}

    def row(self, row: int) -> Tensor:
        """A row without its margins: ``[N, W + padding, channels]``."""
        return self._storage[row % self.rows][:, self.left : self.left + self.width]

    def begin(self, initial: Initial, state: Tensor) -> None:
        """Put an initial state, ``[channels]``, beside the picture."""
        cols = slice(self.left + initial.cols.start, self.left + initial.cols.stop)
        rows = self._storage if initial.row is None else self._storage[initial.row % self.rows]
        rows[..., cols, :] = state[self.order].to(rows)

    def copy_samples(self, other: "Ring") -> None:
        """Fill each sample with one of another ring, which has fewer: side by side, as samples."""
        fewer = other._storage
        self._storage.unflatten(1, (fewer.shape[1], -1)).copy_(fewer.unsqueeze(2))

    def span(self, row: int, col: int, pixels: int, first: int, count: int) -> Tensor:
        """`count` channels: ``[N, pixels, count]``, or ``[N, count]`` at one place."""
        key = (row % self.rows, col, pixels, first, count)
        view = self._views.get(key)
        if view is None:
            overlapping = self._make_view(*key, taps=1)
            view = overlapping[:, 0, 0] if pixels == 1 else overlapping[:, :, 0]
            self._views[key] = view
        return view

    def window(self, row: int, col: int, pixels: int, taps: int, first: int, count: int) -> Tensor:
        """``[N * pixels, taps * count]``: at each place, `taps` neighbours from `col` on."""
        key = (row % self.rows, col, pixels, first, count, taps)
        view = self._views.get(key)
        if view is None:
            view = self._make_view(*key)
            flat = view.reshape(-1, taps * count)
            if flat.data_ptr() == view.data_ptr():  # no copy was needed, so none ever is
                view = flat
            self._views[key] = view
        return view if view.dim() == 2 else view.reshape(-1, taps * count)

    def _make_view(
        self, slot: int, col: int, pixels: int, first: int, count: int, taps: int
    ) -> Tensor:
        """``[N, pixels, taps, count]``, overlapping."""
        rows, sample, place, _ = self._storage.stride()
        shape, strides = (self._storage.shape[1], pixels, taps, count), (sample, place, place, 1)
        offset = slot * rows + (self.left + col) * place + first
        return self._storage.as_strided(shape, strides, self._storage.storage_offset() + offset)


def ring_shape(buffer: Buffer, width: int, samples: int) -> tuple[int, int, int, int]:
    return buffer.rows, samples, buffer.left + width + buffer.right, buffer.channels
