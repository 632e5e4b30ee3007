"""The two simple loops that draw the same pictures, timed by their steps.

The naive loop runs the whole network for each value of a picture. The row-cropped loop runs the
conditioning network once, and for each value the prior on the rows drawn so far. Both take minutes
to hours, so only some of their steps are taken: the naive loop is H W C equal passes; the
row-cropped one is, for each row, W C equal passes, which are timed at some rows and interpolated
between. What else a loop does, noise and draw, is not counted against it, nor is the one pass of
the conditioning network.

On a GPU the passes are those of `passes.fast_pass`, dense or cropped, whichever is quicker:
bfloat16, channels last, CUDA graphs. A third loop stands beside them there, the cached one: the
plan in plain PyTorch, as the reference engine runs it, by CUDA graphs (`cached_loop.py`).
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from . import graphs
from .batch import Batch
from .clock import seconds
from .passes import fast_pass

STEPS = 3
"""Passes that stand for all of the naive loop's; the median counts."""


def naive_pass(batch: Batch) -> Tensor:
    """What the naive loop computes for one value: all logits."""
    return batch.model(*batch.inputs)


def cropped_pass(batch: Batch, rows: int) -> Tensor:
    """What the row-cropped loop computes for one value: the prior's logits of the rows so far."""
    prior = getattr(batch.model, "prior", batch.model)
    return prior(batch.images[:, :, :rows])


@torch.inference_mode()
def naive_loop_seconds(batch: Batch) -> float:
    """The naive loop's time for the whole batch, extrapolated from `STEPS` of its passes."""
    forms = _forms(batch, None, partial(naive_pass, batch))
    steps = [_quickest(batch, forms) for _ in range(STEPS)]
    return statistics.median(steps) * batch.images[0].numel()


@torch.inference_mode()
def cropped_loop_seconds(batch: Batch) -> float:
    """The row-cropped loop's time for the whole batch, extrapolated from passes at five heights."""
    height, width = batch.image_size
    by_rows = {}
    for rows in rows_timed(height):
        forms = _forms(batch, rows, partial(cropped_pass, batch, rows))
        by_rows[rows] = min(_quickest(batch, forms) for _ in range(2))
    return interpolated(by_rows, height) * width * batch.model.colours


def _forms(
    batch: Batch, rows: int | None, plain: Callable[[], Tensor]
) -> list[Callable[[], Tensor]]:
    """The ways to run a pass here: as it stands, or on a GPU both fast ones."""
    if not graphs.uses_graphs(batch.device):
        return [plain]
    return [fast_pass(batch, cropped=cropped, rows=rows) for cropped in (False, True)]


def _quickest(batch: Batch, forms: Sequence[Callable[[], Tensor]]) -> float:
    return min(seconds(batch.device, form) for form in forms)


def rows_timed(height: int) -> list[int]:
    """Heights of the passes that are timed: 1, each quarter, and all."""
    return sorted({1, *(max(1, height * quarter // 4) for quarter in (1, 2, 3, 4))})


def interpolated(by_rows: Mapping[int, float], height: int) -> float:
    """The sum of the times of a pass with 1, 2, .. `height` rows, from some of them."""
    rows = np.arange(1, height + 1)
    return float(np.interp(rows, list(by_rows), list(by_rows.values())).sum())
