"""How values are drawn from logits: the same for every method."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .noise import draw, gumbel_noise, mode
from .request import Request


@dataclass
class Drawing:
    """Seed and temperature, and where to report the progress.

    Attributes:
        advance: called with the number of pictures and of their rows that are done, now and then.
    """

    seed: int
    temperature: float
    advance: Callable[[int, int], None] | None = None
    _row: int = -1
    _noise: Tensor | None = None

    def values(self, request: Request, position: tuple[int, int, int], logits: Tensor) -> Tensor:
        """The values of one position: ints ``[samples]`` from logits ``[samples, levels]``."""
        row, col, colour = position
        if row != self._row:
            self._row, self._noise = row, None
            self.begin_row(request, row)
        if self.temperature == 0:
            return mode(logits)
        if self._noise is None:
            self._noise = _row_noise(self.seed, request, row, logits.device)
        return draw(logits, self._noise[:, col * request.colours + colour], self.temperature)

    def begin_row(self, request: Request, row: int) -> None:
        if self.advance is not None:
            self.advance(request.samples, row)


def _row_noise(seed: int, request: Request, row: int, device: torch.device) -> Tensor:
    """The noise of a row, ``[samples, W * C, levels]``."""
    count = request.image_size[1] * request.colours
    return gumbel_noise(
        seed, request.first_index, request.samples, row * count, count, request.levels, device
    )
