"""The sampler, which draws values from logits; all methods share it."""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pixelsr.errors import LogitsError

from .noise import draw, gumbel_noise, mode
from .request import Request

_NO_FAULT = torch.iinfo(torch.int64).max
_FOUND = {0: "-inf at every level", 2: "+inf", 3: "NaN"}
"""Descriptions of faulty logits by kind, see csrc/common/argmax.h; kind 1 has no fault."""

_Position = tuple[int, int, int]


@dataclass
class Sampler:
    """A seed, a temperature and a progress callback.

    Attributes:
        advance: called from time to time with the number of images and of their finished rows.
        first_sample: number of the first sample among all drawn samples, for errors.
    """

    seed: int
    temperature: float
    advance: Callable[[int, int], None] | None = None
    first_sample: int = 0
    _row: int = -1
    _noise: Tensor | None = None
    _highest: list[tuple[_Position, Tensor]] = field(default_factory=list)

    def draw_all(
        self, request: Request, positions: Generator[tuple[_Position, Tensor], Tensor, None]
    ) -> None:
        """Draw a value for each position and its logits that a generator yields.

        Raises:
            LogitsError: a value cannot be drawn; raised at the end of its row, so that a GPU is
                synchronized only once per row.
        """
        values = None
        with contextlib.suppress(StopIteration):
            while True:
                position, logits = next(positions) if values is None else positions.send(values)
                if position[0] != self._row:
                    self._check_row()
                values = self.values(request, position, logits)
        self._check_row()

    def values(self, request: Request, position: _Position, logits: Tensor) -> Tensor:
        """Return values of one position, ints ``[samples]``, drawn from ``[samples, levels]``."""
        row, col, color = position
        if row != self._row:
            self._row, self._noise = row, None
            self.begin_row(request, row)
        known = request.known_mask[:, color, row, col]
        self._highest.append((position, logits.amax(-1).masked_fill(known, 0)))
        if self.temperature == 0:
            return mode(logits)
        if self._noise is None:
            self._noise = _row_noise(self.seed, request, row, logits.device)
        return draw(logits, self._noise[:, col * request.colors + color], self.temperature)

    def begin_row(self, request: Request, row: int) -> None:
        if self.advance is not None:
            self.advance(request.samples, row)

    def check_faults(self, request: Request, faults: Tensor) -> None:
        """Raise LogitsError for the first fault in raster order, if a kernel recorded any.

        Args:
            faults: int64 ``[samples]`` from `no_faults`; kernels write 4 * position + kind of the
                first fault of each sample.
        """
        first = int(faults.min())
        if first == _NO_FAULT:
            return
        pixel, color = divmod(first // 4, request.colors)
        row, col = divmod(pixel, request.image_size[1])
        sample = int((faults // 4 == first // 4).nonzero()[0])
        found = _FOUND[int(faults[sample]) % 4]
        raise LogitsError(self.first_sample + sample, (row, col, color), found)

    def _check_row(self) -> None:
        """Raise LogitsError for the first non-finite highest logit since the last check."""
        checked, self._highest = self._highest, []
        if not checked:
            return
        highest = torch.stack([values for _, values in checked])  # [positions, samples]
        faulty = ~highest.isfinite()
        if not faulty.any():
            return
        number, sample = faulty.nonzero()[0].tolist()
        found = _FOUND[_kind(float(highest[number, sample]))]
        raise LogitsError(self.first_sample + sample, checked[number][0], found)


def no_faults(request: Request) -> Tensor:
    """Return int64 ``[samples]`` without faults, in which kernels record faulty logits."""
    return torch.full((request.samples,), _NO_FAULT, dtype=torch.int64, device=request.device)


def _kind(highest: float) -> int:
    """Return the kind of faulty logits from the highest, which is NaN if any logit is NaN."""
    if highest != highest:
        return 3
    return 2 if highest > 0 else 0


def _row_noise(seed: int, request: Request, row: int, device: torch.device) -> Tensor:
    """Return the noise of a row, ``[samples, W * C, levels]``."""
    count = request.image_size[1] * request.colors
    return gumbel_noise(
        seed, request.first_index, request.samples, row * count, count, request.levels, device
    )
