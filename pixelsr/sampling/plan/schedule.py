"""The schedule of the computation for images with known values."""

from collections import defaultdict
from functools import cached_property

import torch
from torch import Tensor

from .dependencies import Regions, cells_of
from .ir import ROW, Placed, Plan
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
            min(
                self.leading_rows,
                *(tops.get(cell, self.height) for cell in cells.of(placed.step.out)),
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
    for row in range(schedule.first_row, max(schedule.last_row + 1, schedule.leading_rows)):
        due = zip(plan.placed, schedule.first_rows, strict=True)
        steps = [placed for placed, first in due if row >= first]
        core = [placed for placed in steps if not placed.logits_only]
        if not schedule.row_has_unknown(row):
            total += sum((width + placed.padding) * placed.step.macs for placed in core)
            continue
        of_row = [placed for placed in steps if placed.when == "row"]
        total += sum((width + placed.padding) * placed.step.macs for placed in of_row)
        own, own_core = _stage_macs(steps), _stage_macs(core)
        for col in schedule.cols:
            last, stop = schedule.last_unknown(row, col), schedule.stop(row, col)
            total += (own if last >= 0 else own_core)[ROW]
            total += sum((own if stage <= last else own_core)[stage] for stage in range(stop))
            if schedule.is_last(row, col):
                break
        else:
            late = [placed for placed in core if placed.when != "row"]
            total += sum(placed.padding * placed.step.macs for placed in late)
    return total


def _stage_macs(steps: list[Placed]) -> dict[int, int]:
    """Return the multiply-adds at one pixel: "left" steps under ROW, color steps under 0 to C."""
    stages: dict[int, int] = defaultdict(int)
    for placed in steps:
        if placed.when != "row":
            stages[ROW if placed.when == "left" else placed.color] += placed.step.macs
    return stages
