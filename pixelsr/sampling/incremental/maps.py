"""Feature maps of whole images, in which cells are computed at any positions."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..binding import bind, given_features
from ..engines.buffers import feature_dtype
from ..engines.packing import bias_of, block_of
from ..plan import Plan, Pointwise, Product, Span, Step
from ..plan.dependencies import Cell
from ..plan.pointwise import compile_expression
from ..request import Request

_POSITIONS_AT_ONCE = 4096
"""The number of positions whose windows are gathered at a time, which bounds the memory."""

_Run = Callable[[Tensor, Tensor | None], Tensor]
"""A step as a function of position indices and of the sum of the steps before it."""


Positions = NDArray[np.int64]
"""The positions to compute a cell at, taken from `FeatureMaps.positions`."""

Work = list[tuple[int, Positions]]
"""The work list: cell numbers, each with the positions to compute it at."""


class FeatureMaps(ABC):
    """The feature maps of whole images, ``[N, top + H, left + W + right, channels]`` each.

    All maps have the margins of the widest window, so that a position has the same index in every
    map. The margins are zero, like the padding of a convolution. The dtype is float64 for a float64
    model, else float32.

    Args:
        cells: the cells that `run` computes, by number; their weights are copied.
    """

    def __init__(self, plan: Plan, cells: Sequence[Cell], request: Request) -> None:
        self.plan, self.cells, self.request = plan, cells, request
        self.dtype, self.binding = feature_dtype(request), bind(plan, request)
        buffers = plan.buffers.values()
        self.top = max(buffer.rows for buffer in buffers) - 1
        self.left = max(buffer.left for buffer in buffers)
        self.right = max(buffer.right for buffer in buffers)
        height, width = plan.image_size
        self.padded = self.top + height, self.left + width + self.right
        shape = request.samples, *self.padded
        positions = torch.arange(math.prod(shape), device="cpu").view(shape)
        self.positions: Positions = self._inside(positions).contiguous().numpy()
        """int64 ``[N, H, W]``: the index of each pixel in a map with margins."""
        self.maps = self.allocate()
        self._load_conditioning()

    @abstractmethod
    def allocate(self) -> dict[str, Tensor]:
        """Return maps of zeros by buffer name."""

    @abstractmethod
    def run(self, work: Work) -> None:
        """Compute the cells of a work list in order."""

    def map(self, name: str) -> Tensor:
        """Return a view of a buffer's features, ``[N, H, W, channels]``."""
        return self._inside(self.maps[name])

    def _inside(self, padded: Tensor) -> Tensor:
        width = self.plan.image_size[1]
        return padded[:, self.top :, self.left : self.left + width]

    def _load_conditioning(self) -> None:
        each = given_features(self.plan, self.request)
        joined = [torch.cat(parts, 1) for parts in zip(*each, strict=True)]
        for name, value in zip(self.plan.conditioning, joined, strict=bool(joined)):
            width = self.plan.image_size[1] + self.plan.buffers[name].padding
            padded = self.maps[name][:, self.top :, self.left : self.left + width]
            padded.copy_(value.transpose(0, 1))  # [H or 1, N or 1, W or 1, channels]


class ReferenceFeatureMaps(FeatureMaps):
    """The feature maps in PyTorch, for any device."""

    def __init__(self, plan: Plan, cells: Sequence[Cell], request: Request) -> None:
        super().__init__(plan, cells, request)
        self._outs = [self._rows(cell.span) for cell in cells]
        self._steps = [[self._bind(step) for step in cell.steps] for cell in cells]

    def allocate(self) -> dict[str, Tensor]:
        shape = self.request.samples, *self.padded
        none = torch.zeros(0, dtype=self.dtype, device=self.request.device)
        return {
            name: none.new_zeros(*shape, buffer.channels)
            for name, buffer in self.plan.buffers.items()
        }

    def run(self, work: Work) -> None:
        for cell, positions in work:
            for first in range(0, len(positions), _POSITIONS_AT_ONCE):
                some = torch.from_numpy(positions[first : first + _POSITIONS_AT_ONCE])
                self._run_cell(cell, some.to(self.request.device))

    def _run_cell(self, cell: int, at: Tensor) -> None:
        total = None
        for step in self._steps[cell]:
            total = step(at, total)
        if total is not None:
            self._outs[cell].index_copy_(0, at, total)

    # Convert steps to functions of position indices.

    def _bind(self, step: Step) -> _Run:
        return self._pointwise(step) if isinstance(step, Pointwise) else self._product(step)

    def _pointwise(self, step: Pointwise) -> _Run:
        args = [None if arg == step.out else self._reader(arg) for arg in step.args]
        pointwise = compile_expression(step.expression)

        def run(at: Tensor, total: Tensor | None) -> Tensor:
            return pointwise([total if arg is None else arg(at) for arg in args])

        return run

    def _product(self, step: Product) -> _Run:
        bias = bias_of(self.binding, step, self.dtype)
        weight = self._weight(step)
        add = self._reader(step.add) if step.add else None
        src = self._rows(step.src) if step.src else None
        taps = torch.tensor(
            [dr * self.padded[1] + dc for dr in step.rows for dc in step.cols],
            device=self.request.device,
            dtype=torch.long,
        )

        def run(at: Tensor, total: Tensor | None) -> Tensor:
            total = bias.expand(len(at), -1) if total is None else total
            if add is not None:
                total = total + add(at)
            if src is not None:
                window = src.index_select(0, (at[:, None] + taps).flatten())
                total = torch.addmm(total, window.view(len(at), -1), weight)
            return total

        return run

    def _reader(self, span: Span) -> Callable[[Tensor], Tensor]:
        """Return a function from position indices to a span's features there, or at its offset."""
        rows, away = self._rows(span), span.dr * self.padded[1] + span.dc
        return lambda at: rows.index_select(0, at + away)

    def _rows(self, span: Span) -> Tensor:
        """Return a view of a span at all positions, margins included: ``[positions, count]``."""
        return self.maps[span.buffer].flatten(0, 2)[:, span.first : span.first + span.count]

    def _weight(self, step: Product) -> Tensor:
        """Return the step's block of the layer's weight, ``[taps * in, out]``."""
        if step.weight is None:
            return torch.empty(0, dtype=self.dtype, device=self.request.device)
        weight = block_of(self.binding, step.weight).to(self.dtype)
        return weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
