"""The ring buffers of an engine, and their contents before the first draw."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..binding import bind, captured_features, given_features
from ..plan import Buffer, Plan, Schedule
from ..plan.ir import Initial
from ..request import Request
from .packing import initial_of


class Ring:
    """The last rows of some feature maps: ``[rows, N, left + W + right, channels]``.

    Views are cached: each is needed again in every row of an image, and to create a view takes as
    long as the small product that reads it.

    Args:
        storage: zeros, of shape `ring_shape`.
    """

    def __init__(self, buffer: Buffer, width: int, storage: Tensor) -> None:
        self.rows, self.left, self.width = buffer.rows, buffer.left, width + buffer.padding
        self.order = list(buffer.order)
        self._storage = storage
        self._views: dict[tuple[int, ...], Tensor] = {}

    def row(self, row: int) -> Tensor:
        """Return a row without its margins: ``[N, W + padding, channels]``."""
        return self._storage[row % self.rows][:, self.left : self.left + self.width]

    def begin(self, initial: Initial, state: Tensor) -> None:
        """Store an initial state ``[channels]`` in the margins beside the image."""
        cols = slice(self.left + initial.cols.start, self.left + initial.cols.stop)
        rows = self._storage if initial.row is None else self._storage[initial.row % self.rows]
        rows[..., cols, :] = state[self.order].to(rows)

    def copy_samples(self, other: "Ring") -> None:
        """Copy a ring with fewer samples, and repeat each of them in consecutive samples."""
        fewer = other._storage
        self._storage.unflatten(1, (fewer.shape[1], -1)).copy_(fewer.unsqueeze(2))

    def span(self, row: int, col: int, pixels: int, first: int, count: int) -> Tensor:
        """Return `count` channels: ``[N, pixels, count]``, or ``[N, count]`` for one pixel."""
        key = (row % self.rows, col, pixels, first, count)
        view = self._views.get(key)
        if view is None:
            overlapping = self._make_view(*key, taps=1)
            view = overlapping[:, 0, 0] if pixels == 1 else overlapping[:, :, 0]
            self._views[key] = view
        return view

    def window(self, row: int, col: int, pixels: int, taps: int, first: int, count: int) -> Tensor:
        """Return ``[N * pixels, taps * count]``: at each pixel, `taps` columns from `col` on."""
        key = (row % self.rows, col, pixels, first, count, taps)
        view = self._views.get(key)
        if view is None:
            view = self._make_view(*key)
            flat = view.reshape(-1, taps * count)
            if flat.data_ptr() == view.data_ptr():  # the view is flat without a copy
                view = flat
            self._views[key] = view
        return view if view.dim() == 2 else view.reshape(-1, taps * count)

    def _make_view(
        self, slot: int, col: int, pixels: int, first: int, count: int, taps: int
    ) -> Tensor:
        """Return an overlapping view, ``[N, pixels, taps, count]``."""
        rows, sample, place, _ = self._storage.stride()
        shape, strides = (self._storage.shape[1], pixels, taps, count), (sample, place, place, 1)
        offset = slot * rows + (self.left + col) * place + first
        return self._storage.as_strided(shape, strides, self._storage.storage_offset() + offset)


def ring_shape(buffer: Buffer, width: int, samples: int) -> tuple[int, int, int, int]:
    return buffer.rows, samples, buffer.left + width + buffer.right, buffer.channels


def feature_dtype(request: Request) -> torch.dtype:
    """Return the dtype of the features: float64 for a float64 model, otherwise float32."""
    parameter = next(request.model.parameters())
    return torch.float64 if parameter.dtype == torch.float64 else torch.float32


class Features:
    """The feature maps of one batch of images.

    Attributes:
        rings: the ring of each buffer, by name.
        conditioning: the conditioning features, as rows ``[H or 1, M, W or 1, channels]``. They are
            computed if they are not given.
    """

    def __init__(
        self,
        plan: Plan,
        request: Request,
        rings: dict[str, Ring],
        conditioning: dict[str, Tensor] | None = None,
    ) -> None:
        self.plan, self.request, self.rings = plan, request, rings
        self.conditioning = _values(plan, request) if conditioning is None else conditioning

    def load_values(self, row: int) -> None:
        """Copy a row of the conditioning features into their buffers."""
        for name, value in self.conditioning.items():
            source = value[row if len(value) > 1 else 0]
            target = self.rings[name].row(row)
            target.copy_(self._per_sample(source).expand_as(target))

    def load_known(self, row: int, images: Tensor) -> None:
        """Copy a row of the images into the image buffer."""
        self.rings[self.plan.image].row(row).copy_(images[:, :, row].transpose(1, 2))

    def prefill(self, schedule: Schedule) -> int:
        """Fill the buffers with the features of the known leading rows, and return the next row."""
        begin(self.plan, self.request, self.rings)
        first, end = schedule.first_row, schedule.leading_rows
        if self.plan.prefill is None:
            return first
        if first >= end:
            return end
        for row in range(max(first, end - self.rings[self.plan.image].rows), end):
            self.load_known(row, self.request.known)
        kept = max((self.rings[name].rows for name in self.conditioning), default=0)
        for row in range(max(first, end - kept), end):
            self.load_values(row)
        for row_maps, samples in self._passes():
            for name, rows in row_maps.items():
                ring = self.rings[name]
                for row in range(max(first, end - ring.rows), end):
                    target = ring.row(row)[samples]
                    target.copy_(rows[row][..., ring.order].expand_as(target))
        return end

    def _passes(self) -> Iterator[tuple[dict[str, Tensor], slice]]:
        """Yield the features of forward passes of the known values, with the samples they serve."""
        request = self.request
        inputs = 1 if request.low_res is None else len(request.low_res)
        passes = max(inputs, len(request.known))
        each = request.samples // passes
        for number in range(passes):
            known = request.known[number if len(request.known) > 1 else 0][None]
            low_res = request.low_res
            if low_res is not None:
                low_res = low_res[number * inputs // passes][None]
            samples = slice(number * each, (number + 1) * each)
            yield captured_features(self.plan, request, known, low_res), samples

    def _per_sample(self, rows: Tensor) -> Tensor:
        """Repeat ``[M, ...]`` for all samples of each input."""
        return rows.repeat_interleave(self.request.samples // len(rows), 0)


def begin(plan: Plan, request: Request, rings: dict[str, Ring]) -> None:
    """Store the initial states of recurrences in the margins beside the image."""
    for name, buffer in plan.buffers.items():
        if buffer.initial:
            rings[name].begin(buffer.initial, initial_of(bind(plan, request), buffer.initial))


def _values(plan: Plan, request: Request) -> dict[str, Tensor]:
    each = given_features(plan, request)
    joined = [torch.cat(parts, 1) for parts in zip(*each, strict=True)]
    return dict(zip(plan.conditioning, joined, strict=bool(joined)))


def packed_conditioning(plan: Plan, request: Request) -> Tensor:
    """Return a row for each input: its features ``[H, W + padding, channels]`` in a sequence."""
    shapes, sizes = conditioning_shapes(plan), conditioning_sizes(plan)
    inputs = 1 if request.low_res is None else len(request.low_res)
    packed = torch.empty(inputs, sum(sizes), dtype=feature_dtype(request), device=request.device)
    for own, values in zip(packed, given_features(plan, request), strict=False):
        for piece, shape, value in zip(own.split(sizes), shapes, values, strict=True):
            piece.view(shape).copy_(value[:, 0])  # [H or 1, W or 1, channels]
    return packed


def conditioning_shapes(plan: Plan) -> list[torch.Size]:
    """Return the shapes ``[H, W + padding, channels]`` of the conditioning features of an input."""
    height, width = plan.image_size
    buffers = [plan.buffers[name] for name in plan.conditioning]
    return [torch.Size((height, width + b.padding, b.channels)) for b in buffers]


def conditioning_sizes(plan: Plan) -> list[int]:
    return [shape.numel() for shape in conditioning_shapes(plan)]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to a device without waiting for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
