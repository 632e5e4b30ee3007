"""The schedule of the computation for images with known values."""

from collections.abc import Iterable
from functools import cached_property
from operator import itemgetter

import torch
from torch import Tensor

from .dependencies import Regions, cells_of
from .ir import Placed, Plan
from .symbolic import BoolArray


class Schedule:
    """The rows, pixels and colors that have to be computed when some values are known.

    Args:
        unknown: bool ``[C, H, W]``, true where a value has to be drawn in any sample.
    """

    def __init__(self, plan: Plan, unknown: Tensor) -> None:
        self.colors, self.height, self.width = unknown.shape
        self.unknown = unknown.permute(1, 2, 0).contiguous().cpu()  # [H, W, C]
        counted = self.unknown * torch.arange(1, self.colors + 1, device="cpu")
        last = counted.amax(2) - 1  # [H, W]
        stop = torch.full_like(last, self.colors + 1)
        pixels = (last >= 0).flatten().nonzero().flatten()
        if len(pixels):
            stop.view(-1)[pixels[-1]] = last.view(-1)[pixels[-1]] + 1
        self.last_and_stop = torch.stack([last, stop])
        """int64 ``[2, H, W]``: the last unknown color of each pixel (-1 if all are known), and the
        number of its stages that must run. Nothing is computed after the last unknown value."""
        self._has_unknown = (last >= 0).any(1).tolist()
        rows = [row for row in range(self.height) if self.row_has_unknown(row)]
        self.leading_rows = rows[0] if rows else self.height
        """The number of rows at the top without an unknown value."""
        self.last_row = rows[-1] if rows else -1
        """The last row with an unknown value; nothing below it is computed."""
        needed = _needed(plan, unknown)
        self.first_row, self.cols = _window(plan, needed)
        """The first row and the columns of all features that an unknown value depends on."""
        self.first_rows = self._first_rows(plan, needed)
        """The first row of each placed step. No unknown value depends on its results above."""

    # Element access is much faster in lists than in tensors, but lists are many times larger.

    @cached_property
    def _last(self) -> list[list[int]]:
        return self.last_and_stop[0].tolist()

    @cached_property
    def _stop(self) -> list[list[int]]:
        return self.last_and_stop[1].tolist()

    @cached_property
    def _unknown(self) -> list[list[list[bool]]]:
        return self.unknown.tolist()

    def _first_rows(self, plan: Plan, needed: Regions) -> tuple[int, ...]:
        if not needed:
            return tuple(placed.first_row for placed in plan.placed)
        cells = cells_of(plan)
        tops = {cell: int(region.any((0, 2)).argmax()) for cell, region in needed.items()}
        return tuple(
            max(
                placed.first_row,
                min(
                    self.leading_rows,
                    *(tops.get(cell, self.height) for cell in cells.of(placed.step.out)),
                ),
            )
            for placed in plan.placed
        )

    def row_has_unknown(self, row: int) -> bool:
        return bool(self._has_unknown[row])

    def last_unknown(self, row: int, col: int) -> int:
        """Return the last unknown color of a pixel, or -1 if all are known."""
        return int(self._last[row][col])

    def is_last(self, row: int, col: int) -> bool:
        """Return True if there is no unknown value after this pixel."""
        return bool(self._stop[row][col] <= self.colors)

    def stop(self, row: int, col: int) -> int:
        """Return the number of stages of a pixel that must run, from color 0 on."""
        return int(self._stop[row][col])

    def is_unknown(self, row: int, col: int, color: int) -> bool:
        return bool(self._unknown[row][col][color])


def _needed(plan: Plan, unknown: Tensor) -> Regions:
    """Return the regions that the logits of unknown values depend on; empty means everything."""
    nothing_known = bool(unknown[:, 0, 0].any()) and bool(unknown[:, :, -1].any())
    if nothing_known or not plan.is_local:
        return {}
    cells = cells_of(plan)
    wanted: dict[int, BoolArray] = {}
    for color, span in enumerate(plan.logits):
        region = unknown[color].cpu().numpy()[None]
        for cell in cells.of(span):  # without color masks, one cell has several colors
            wanted[cell] = wanted[cell] | region if cell in wanted else region
    return {cell: region for cell, region in cells.needed(wanted).items() if region.any()}


def _window(plan: Plan, needed: Regions) -> tuple[int, range]:
    """Return the first row and the columns of all regions together."""
    height, width = plan.image_size
    regions = [region[0] for region in needed.values()]
    if not regions:
        return 0, range(width)
    rows = [row for row in range(height) if any(region[row].any() for region in regions)]
    cols = [col for col in range(width) if any(region[:, col].any() for region in regions)]
    return rows[0], range(cols[0], cols[-1] + 1)


def macs_with_known(plan: Plan, unknown: Tensor) -> int:
    """Return the number of multiply-adds per image when only some values are unknown.

    This counts the steps that the C++ engine runs; other engines process known leading rows in one
    parallel pass.

    Args:
        unknown: bool ``[C, H, W]``, true where a value has to be drawn in any sample.
    """
    schedule = Schedule(plan, unknown)
    width = len(schedule.cols)
    total = 0
    steps = list(zip(plan.placed, schedule.first_rows, strict=True))
    moments = plan.moments(steps, itemgetter(0))
    left = [_at_pixel(steps) for steps in moments.left]
    colors = [[_at_pixel(steps) for steps in pair] for pair in moments.colors]
    for row in range(schedule.first_row, max(schedule.last_row + 1, schedule.leading_rows)):
        has_unknown = schedule.row_has_unknown(row)
        for placed, first in moments.row if has_unknown else moments.known_row:
            total += (row >= first) * (width + placed.padding) * placed.step.macs
        if not has_unknown:
            continue
        for col in schedule.cols:
            last, stop = schedule.last_unknown(row, col), schedule.stop(row, col)
            total += left[last >= 0]
            total += sum(colors[stage][stage <= last] for stage in range(stop))
            if schedule.is_last(row, col):
                break
        else:
            total += sum(map(_at_pixel, moments.padding))
    return total


def _at_pixel(steps: Iterable[tuple[Placed, int]]) -> int:
    """Return the multiply-adds of steps at one pixel."""
    return sum(placed.step.macs for placed, _ in steps)
