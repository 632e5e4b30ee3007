"""The buffers of an engine, and their values before the first draw."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..plan import Buffer, Plan, Schedule
from ..plan.ir import Initial
from ..plan.trace import rows_of, run_conditioning
from ..request import Request
from .packing import initial_of


class Ring:
    """The last rows of some feature maps: ``[rows, N, left + W + right, channels]``.

    Views are made once: in an image each is asked for in every row, and making one costs as much
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
        """Put an initial state, ``[channels]``, beside the image."""
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
        """``[N * pixels, taps * count]``: at each place, `taps` neighbors from `col` on."""
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


_INPUTS_AT_ONCE = 32
"""Small images that a GPU is given together."""


def feature_dtype(request: Request) -> torch.dtype:
    """Features of a float64 model are float64, all others float32."""
    parameter = next(request.model.parameters())
    return torch.float64 if parameter.dtype == torch.float64 else torch.float32


class Features:
    """The feature maps of one batch of images.

    Attributes:
        rings: by the name of the buffer.
        images: the images so far, uint8 ``[samples, C, H, W]``.
        values: what depends on the small image alone, as rows ``[H or 1, M, W or 1, channels]``;
            computed, unless they are given.
    """

    def __init__(
        self,
        plan: Plan,
        request: Request,
        rings: dict[str, Ring],
        values: dict[str, Tensor] | None = None,
    ) -> None:
        self.plan, self.request, self.rings = plan, request, rings
        self.images = request.known.expand(request.samples, -1, -1, -1).clone()
        self.values = _values(plan, request) if values is None else values

    def load_values(self, row: int) -> None:
        """Copy a row of the image stage's values into their buffers."""
        for name, value in self.values.items():
            source = value[row if len(value) > 1 else 0]
            target = self.rings[name].row(row)
            target.copy_(self._per_sample(source).expand_as(target))

    def load_known(self, row: int) -> None:
        """Copy a row of the images into their buffer."""
        self.rings[self.plan.image].row(row).copy_(self.images[:, :, row].transpose(1, 2))

    def prefill(self, schedule: Schedule) -> int:
        """Fill the buffers as if leading rows, which are known, had been drawn; gives the next."""
        begin(self.plan, self.request, self.rings)
        first, end = schedule.first_row, schedule.leading_rows
        if self.plan.prefill is None:
            return first
        cols = slice(schedule.cols.start, schedule.cols.stop)
        if first >= end:
            return end
        for row in range(max(first, end - self.rings[self.plan.image].rows), end):
            self.load_known(row)
        kept = max((self.rings[name].rows for name in self.values), default=0)
        for row in range(max(first, end - kept), end):
            self.load_values(row)
        prefill, known = self.plan.prefill, self.request.known[:, :, first:end, cols]
        if prefill.values:
            known = known.expand(self.request.samples, -1, -1, -1)
        height, width = self.plan.image_size
        whole = (self.values[name].expand(height, -1, width, -1) for name in prefill.values)
        values = [self._per_sample(value.movedim(1, 0)[:, first:end, cols]) for value in whole]
        maps = prefill.module(known, *(value.permute(0, 3, 1, 2) for value in values))
        for name, value in zip(prefill.buffers, maps, strict=True):
            ring, height = self.rings[name], value.shape[2]
            ordered = rows_of(value)[..., ring.order]
            for row in range(max(0, height - ring.rows), height):
                target = ring.row(first + row)[:, cols]
                target.copy_(ordered[row].expand_as(target))
        return end

    def _per_sample(self, rows: Tensor) -> Tensor:
        """Repeat ``[M, ...]`` for the samples of each input."""
        return rows.repeat_interleave(self.request.samples // len(rows), 0)


def begin(plan: Plan, request: Request, rings: dict[str, Ring]) -> None:
    """Put the initial states of recurrences beside the image."""
    for name, buffer in plan.buffers.items():
        if buffer.initial:
            rings[name].begin(buffer.initial, initial_of(request.model, buffer.initial))


def _values(plan: Plan, request: Request) -> dict[str, Tensor]:
    each = conditioning_features(plan, request)
    joined = [torch.cat(parts, 1) for parts in zip(*each, strict=True)]
    return dict(zip(plan.values, joined, strict=True))


def conditioning_features(plan: Plan, request: Request) -> Iterator[tuple[Tensor, ...]]:
    """What depends on the small images alone: of each, rows ``[H or 1, 1, W or 1, channels]``.

    The library's sums depend on the batch: so they come one by one, or on a GPU, which would wait
    for each, always so many at once.
    """
    if plan.conditioning_features is None:
        return
    if request.low_res is None:
        yield run_conditioning(plan.conditioning_features, None)
        return
    at_once = _INPUTS_AT_ONCE if request.device.type == "cuda" else 1
    for part in request.low_res.split(at_once):
        padded = torch.cat([part, part.new_zeros(at_once - len(part), *part.shape[1:])])
        values = run_conditioning(plan.conditioning_features, padded)
        for own in range(len(part)):
            yield tuple(value[:, own : own + 1] for value in values)


def packed_values(plan: Plan, request: Request) -> Tensor:
    """The image stage's values, all of an input in a row: ``[H, W + padding, channels]`` each."""
    shapes, sizes = value_shapes(plan), value_sizes(plan)
    inputs = 1 if request.low_res is None else len(request.low_res)
    packed = torch.empty(inputs, sum(sizes), dtype=feature_dtype(request), device=request.device)
    for own, values in zip(packed, conditioning_features(plan, request), strict=False):
        for piece, shape, value in zip(own.split(sizes), shapes, values, strict=True):
            piece.view(shape).copy_(value[:, 0])  # [H or 1, W or 1, channels]
    return packed


def value_shapes(plan: Plan) -> list[torch.Size]:
    """Of the image stage's values of one input, ``[H, W + padding, channels]``."""
    height, width = plan.image_size
    buffers = [plan.buffers[name] for name in plan.values]
    return [torch.Size((height, width + b.padding, b.channels)) for b in buffers]


def value_sizes(plan: Plan) -> list[int]:
    return [shape.numel() for shape in value_shapes(plan)]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """What the host has made, on a device; nobody waits for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
