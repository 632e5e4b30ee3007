"""Incremental logits: after an edit of the images, only the affected features are recomputed."""

import numpy as np
import torch
from torch import Tensor, nn

from pixelsr.functional.autocast import without_autocast

from ..engines import choose_engine
from ..engines.base import PlanEngine
from ..engines.cpu.engine import CpuEngine
from ..engines.reference import ReferenceEngine
from ..plan import Plan
from ..plan.dependencies import cells_of
from ..plan.ir import Span
from ..plan.symbolic import BoolArray
from ..plan_cache import plan_of
from ..request import Request, check_images, check_levels, request_for
from .maps import FeatureMaps, Positions, ReferenceFeatureMaps, Work
from .maps_cpu import CpuFeatureMaps

_WHOLE: dict[type[PlanEngine], type[FeatureMaps]] = {
    CpuEngine: CpuFeatureMaps,
    ReferenceEngine: ReferenceFeatureMaps,
}
_NO_EDITS = "it does not support edits; use cpu or reference"


class IncrementalLogits:
    """Images with their features and logits; `incremental_logits` creates it.

    Attributes:
        images: uint8 ``[N, C, H, W]``, the current images, a copy of the given ones. Change them
            only with `edit`.
        macs: number of multiply-adds in the last edit, or in `incremental_logits` before any edit.
    """

    def __init__(self, request: Request, engine: str) -> None:
        self._plan = plan_of(request)
        self._cells = cells_of(self._plan)
        self._macs = [cell.macs for cell in self._cells.cells]
        self._levels = request.levels
        self._engine = _choose(engine, self._plan, request)(self._plan, self._cells.cells, request)
        self.images = request.known
        self._write_images()
        for number, cell in enumerate(self._cells.cells):  # separately, to save memory
            everywhere = self._engine.positions[:, cell.first_row :].reshape(-1)
            self._engine.run([(number, everywhere)])
        self.macs = self._plan.macs * request.samples

    @property
    def logits(self) -> Tensor:
        """Return the logits of the current images, ``[N, L, C, H, W]``.

        Do not write to the result, and do not use it after the next edit: if the plan's layout
        allows it, it is a view of features that the edit overwrites. The dtype is float64 for a
        float64 model, else float32.
        """
        spans = self._plan.logits
        features = self._engine.map(spans[0].buffer)  # [N, H, W, channels]
        if [span.first for span in spans] == [_first(spans, c) for c in range(len(spans))]:
            end = spans[-1].first + spans[-1].count
            colors = features[..., spans[0].first : end].unflatten(-1, (len(spans), -1))
        else:
            parts = [features[..., span.first : span.first + span.count] for span in spans]
            colors = torch.stack(parts, 3)
        return colors.permute(0, 4, 3, 1, 2)

    @without_autocast()
    @torch.no_grad()
    def edit(self, values: Tensor, mask: Tensor) -> None:
        """Change any pixels of the images, and update the logits.

        The result equals ``incremental_logits(model, torch.where(mask, values, state.images))``.
        Each layer is recomputed only at positions that depend on a changed value.

        Args:
            values: uint8 ``[N or 1, C, H, W]``, one image for all or one for each.
            mask: bool, the same shape, true where the images take the new value.
        Raises:
            ValueError, TypeError: an argument has the wrong type, dtype or shape, or holds a value
                that is not a level; the images stay unchanged.
        """
        values, mask = self._checked(values, mask)
        new = torch.where(mask, values, self.images)
        changed = (new != self.images).cpu().numpy()  # [N, C, H, W]
        self.images.copy_(new)
        self._write_images()
        self.macs = 0
        samples = changed.any((1, 2, 3)).nonzero()[0]
        if len(samples):
            self._update(changed[samples], samples)

    def _update(self, changed: BoolArray, samples: np.ndarray) -> None:
        """Recompute each cell at the positions that a change in any of the samples affects."""
        above, below, left, right = self._cells.reach
        _, _, changed_rows, changed_cols = changed.nonzero()
        rows = _around(changed_rows, above, below)
        cols = _around(changed_cols, left, right)
        window = changed[:, :, rows, cols]
        image = {
            self._cells.of(Span(self._plan.image, color, 1))[0]: window[:, color]
            for color in range(self._plan.colors)
            if window[:, color].any()
        }
        grid = self._engine.positions[:, rows, cols][samples]
        work: Work = []
        positions: dict[tuple[int, int], Positions] = {}  # many cells share a region
        for number, region in self._cells.affected(image).items():
            if number in image:
                continue
            above = max(0, self._cells.cells[number].first_row - rows.start)
            if (id(region), above) not in positions:
                positions[id(region), above] = grid[:, above:][region[:, above:]]
            own = positions[id(region), above]
            work.append((number, own))
            self.macs += self._macs[number] * len(own)
        self._engine.run(work)

    def _write_images(self) -> None:
        self._engine.map(self._plan.image).copy_(self.images.permute(0, 2, 3, 1))

    def _checked(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        n, colors, *size = self.images.shape
        check_images("values", values, colors, (size[0], size[1]))
        if len(values) not in (1, n):
            raise ValueError(f"values must hold 1 or {n} images, got {len(values)}")
        if not isinstance(mask, Tensor):
            raise TypeError(f"mask must be a bool tensor, got {type(mask).__name__}")
        if mask.dtype != torch.bool or mask.shape != values.shape:
            raise ValueError(
                f"mask must be bool {list(values.shape)}, got {mask.dtype} {list(mask.shape)}"
            )
        values, mask = values.to(self.images.device), mask.to(self.images.device)
        check_levels("values", values.masked_fill(~mask, 0), self._levels)
        return values, mask


def _around(changed: np.ndarray, before: int, after: int) -> slice:
    """Return the slice from `before` the first changed row or column to `after` the last one."""
    return slice(max(0, int(changed.min()) - before), int(changed.max()) + after + 1)


def _first(spans: tuple[Span, ...], color: int) -> int:
    return spans[0].first + color * spans[0].count


def _choose(engine: str, plan: Plan, request: Request) -> type[FeatureMaps]:
    """Return the feature maps of the named engine, or with "auto" of the best suitable one."""

    def unsupported_reason(kind: type[PlanEngine]) -> str | None:
        return kind.unsupported_reason(plan, request) if kind in _WHOLE else _NO_EDITS

    return _WHOLE[choose_engine(engine, request.device, unsupported_reason)]


@without_autocast()
@torch.inference_mode(False)  # else its tensors could not be edited outside of inference mode
@torch.no_grad()
def incremental_logits(
    model: nn.Module, images: Tensor, *, low_res: Tensor | None = None, engine: str = "auto"
) -> IncrementalLogits:
    """Compute the logits of images, and keep the features for fast updates after edits.

    ::

        state = pixelsr.sampling.incremental_logits(model, images)
        state.edit(values, mask)
        state.logits  # of the edited images: model(state.images)

    The weights are copied in this call: later changes of the parameters have no effect. All
    features of all layers are kept, in float32 or float64.

    Args:
        model: as in `pixelsr.sample`; the cached method must be able to plan it.
        images: uint8 ``[N, C, H, W]``.
        low_res: uint8 ``[N, C, h, w]``, for a model that takes it.
        engine: "auto", "reference" or "cpu", as in `pixelsr.sample`.
    Raises:
        ValueError, TypeError: an argument is invalid; the message names the value and what was
            expected.
        PlanError: the network cannot be planned; the message names the operation.
    """
    return IncrementalLogits(request_for(model, images, low_res, known=True), engine)
