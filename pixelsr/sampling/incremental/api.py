"""The logits of images that are edited: after each edit, only what it affects is computed."""

import numpy as np
import torch
from torch import Tensor, nn

from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.modules import unwrap

from ..engines import choose_engine
from ..engines.base import Engine
from ..engines.cpu.engine import CpuEngine
from ..engines.reference import ReferenceEngine
from ..methods import plan_of
from ..plan import Plan
from ..plan.dependencies import cells_of
from ..plan.ir import Span
from ..plan.symbolic import BoolArray
from ..request import Request, check_images, check_levels, layout, make_request
from .maps import FeatureMaps, Positions, ReferenceFeatureMaps, Work
from .maps_cpu import CpuFeatureMaps

_WHOLE: dict[type[Engine], type[FeatureMaps]] = {
    CpuEngine: CpuFeatureMaps,
    ReferenceEngine: ReferenceFeatureMaps,
}
_NO_EDITS = "it draws images but takes no edits, which cpu and reference do"


class IncrementalLogits:
    """Images, their features and their logits; made by `incremental_logits`.

    Attributes:
        images: uint8 ``[N, C, H, W]``, the images as they stand; a copy of those given. Change
            them by `edit` alone.
        macs: multiply-adds of the last edit, or of `incremental_logits`, where there was none.
    """

    def __init__(self, request: Request, engine: str) -> None:
        self._plan = plan_of(request)
        self._cells = cells_of(self._plan)
        self._macs = [cell.macs for cell in self._cells.cells]
        self._levels = request.levels
        self._engine = _choose(engine, self._plan, request)(self._plan, self._cells.cells, request)
        self.images = request.known
        self._write_images()
        everywhere = self._engine.positions.reshape(-1)
        for number in range(len(self._cells.cells)):  # one by one, for the memory of the places
            self._engine.run([(number, everywhere)])
        self.macs = self._plan.macs * request.samples

    @property
    def logits(self) -> Tensor:
        """Logits ``[N, L, C, H, W]`` of the images as they stand.

        Not to be written to, and not to be relied on after the next edit: where the plan's layout
        allows it, a view of what the edit will change. Float64 for a float64 model, else float32.
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
        """Change pixels, anywhere and in any order, and bring the logits up to date.

        Equals ``incremental_logits(model, torch.where(mask, values, state.images))``, at the cost
        of the places that read a value which is now another, layer by layer.

        Args:
            values: uint8 ``[N or 1, C, H, W]``; one for all images, or one for each.
            mask: bool, the same shape; true where the value is to be taken.
        Raises:
            ValueError, TypeError: another type, dtype, shape, or a value that is no level; nothing
                is changed then.
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
        """Compute each cell anew where it reads what has changed in some of the samples."""
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
        positions: dict[int, Positions] = {}  # many cells share a region
        for number, region in self._cells.affected(image).items():
            if number in image:
                continue
            if id(region) not in positions:
                positions[id(region)] = grid[region]
            work.append((number, positions[id(region)]))
            self.macs += self._macs[number] * len(positions[id(region)])
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
    """From so far before the first of some rows, or columns, to so far after the last."""
    return slice(max(0, int(changed.min()) - before), int(changed.max()) + after + 1)


def _first(spans: tuple[Span, ...], color: int) -> int:
    return spans[0].first + color * spans[0].count


def _choose(engine: str, plan: Plan, request: Request) -> type[FeatureMaps]:
    """The named engine, or with "auto" the best that can run and takes edits."""

    def why_not(kind: type[Engine]) -> str | None:
        return kind.why_not(plan, request) if kind in _WHOLE else _NO_EDITS

    return _WHOLE[choose_engine(engine, request.device, why_not)]


@without_autocast()
@torch.inference_mode(False)  # or what it makes could not be edited outside of that mode
@torch.no_grad()
def incremental_logits(
    model: nn.Module, images: Tensor, *, low_res: Tensor | None = None, engine: str = "auto"
) -> IncrementalLogits:
    """The logits of some images, and what it takes to keep them right while pixels change.

    ::

        state = pixelsr.sampling.incremental_logits(model, images)
        state.edit(values, mask)
        state.logits  # of the edited images: model(state.images)

    The weights are those of this call: parameters that change later change nothing here. Every
    feature of every layer is kept, in float32 or float64.

    Args:
        model: as in `pixelsr.sample`, one that the cached method can plan.
        images: uint8 ``[N, C, H, W]``.
        low_res: uint8 ``[N, C, h, w]`` for a model that takes one.
        engine: "auto", "reference" or "cpu", as in `pixelsr.sample`.
    Raises:
        ValueError, TypeError: an argument that does not fit; the message names the value and what
            was expected.
        PlanError: the network cannot be planned; the message names the operation.
    """
    model = unwrap(model)
    colors, levels = layout(model)
    check_images("images", images, colors, None)
    check_levels("images", images, levels)
    if low_res is not None:
        check_images("low_res", low_res, colors, None)
        if len(low_res) != len(images):
            raise ValueError(f"low_res must hold {len(images)} images, got {len(low_res)}")
    size = (int(images.shape[2]), int(images.shape[3]))
    n = len(images) if low_res is None else 1
    given = torch.ones_like(images, dtype=torch.bool)
    request = make_request(model, n, size, low_res, images, given, 0, "model")
    return IncrementalLogits(request, engine)
