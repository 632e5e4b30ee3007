"""How values are drawn from logits: the same for every method."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ..noise import draw, gumbel_noise
from ..request import Request


@dataclass
class Drawing:
    """Seed and temperature, and where to report the progress.

    Attributes:
        advance: called with the number of pictures whenever one more of their rows is begun.
    """

    seed: int
    temperature: float
    advance: Callable[[int, int], None] = field(default=lambda samples, row: None)
    _row: int = -1
    _noise: Tensor | None = None

    def values(self, request: Request, position: tuple[int, int, int], logits: Tensor) -> Tensor:
        """The values of one position: ints ``[samples]`` from logits ``[samples, levels]``."""
        row, col, colour = position
        noise = self._row_noise(request, row, logits)
        return draw(logits, noise[:, col * request.colours + colour], self.temperature)

    def _row_noise(self, request: Request, row: int, logits: Tensor) -> Tensor:
        """``[samples, W * C, levels]``, computed once a row."""
        if self._noise is None or row != self._row:
            self._row = row
            count = request.image_size[1] * request.colours
            self._noise = gumbel_noise(
                self.seed,
                request.first_index,
                request.samples,
                row * count,
                count,
                request.levels,
                logits.device,
            )
            self.advance(request.samples, row)
        return self._noise
