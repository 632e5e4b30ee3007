"""The check of a new plan, which compares its logits with those of the model's forward."""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from pixelsr.errors import PlanError
from pixelsr.utils.modules import can_copy, copy_together

from .engines import choose_engine
from .plan import Plan
from .plan.dependencies import cells_of
from .plan.planner import Planner
from .plan.trace import UNPLANNED
from .request import make_request

_Size = tuple[int, int]

_MOST_LOGITS = 2**22
"""The most logits of a check; a plan with more is checked at a smaller image size."""


@torch.inference_mode(False)
@torch.no_grad()
def check_plan(plan: Plan, model: nn.Module, low_res_size: _Size | None) -> None:
    """Check that a new plan gives the same logits as the model's forward at every position.

    Both run on random images. The check uses copies with random parameters, since untrained
    parameters (for example zero biases) hide mistakes. The copies run in float64 on the CPU, with a
    relative tolerance of 1e-9. If the forward requires a particular dtype or device, the copies
    keep the model's own. If the model cannot be copied, it runs itself. In these two cases the
    relative tolerance is the square root of the dtype's epsilon.

    Raises:
        PlanError: the logits differ (the message names the first position), or the plan or the
            forward cannot run.
    """
    plan, low_res_size = _reduced(plan, model, low_res_size)
    if can_copy(model):
        for make in (_float64_copies, _random_copies):
            with contextlib.suppress(_CannotRunError):
                if _compare(*make(plan, model), low_res_size):
                    return
    try:
        _compare(plan, model, low_res_size)
    except _CannotRunError as error:
        raise PlanError(f"the plan of this network cannot be checked: {error}") from error


class _CannotRunError(Exception):
    """The error for a network or a plan that cannot be copied or run."""


def _float64_copies(plan: Plan, model: nn.Module) -> tuple[Plan, nn.Module]:
    plan, model = _random_copies(plan, model)
    with _running():
        model.to("cpu", torch.float64)
        return dataclasses.replace(
            plan, conditioning_features=_in_float64(plan.conditioning_features)
        ), model


def _random_copies(plan: Plan, model: nn.Module) -> tuple[Plan, nn.Module]:
    with _running():
        own, conditioning_features = copy_together(model, plan.conditioning_features)
        _randomize(own)
        return dataclasses.replace(plan, conditioning_features=conditioning_features), own


@contextlib.contextmanager
def _running() -> Iterator[None]:
    """Convert the errors that a user's network may raise into `_CannotRunError`."""
    try:
        yield
    except (*UNPLANNED, copy.Error) as error:
        raise _CannotRunError(str(error)) from error


def _in_float64(stage: fx.GraphModule | None) -> fx.GraphModule | None:
    """Convert the module of conditioning features to float64, with the dtypes in its graph."""

    def changed(argument: Any) -> Any:
        is_float = isinstance(argument, torch.dtype) and argument.is_floating_point
        return torch.float64 if is_float else argument

    if stage is None:
        return None
    for node in stage.graph.nodes:
        node.args = fx.node.map_aggregate(node.args, changed)
        node.kwargs = fx.node.map_aggregate(node.kwargs, changed)
    stage.recompile()
    return stage.to("cpu", torch.float64)


def _compare(plan: Plan, model: nn.Module, low_res_size: _Size | None) -> bool:
    """Compare the logits of random images; return False if the forward gives no finite logit."""
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(0)
    count = 1 if low_res_size is None else 2  # two reveal operations that mix samples
    images = _random_images(plan, count, plan.image_size, random).to(device)
    low_res = None
    if low_res_size is not None:
        low_res = _random_images(plan, count, low_res_size, random).to(device)
    with _running():
        expected = model(images) if low_res is None else model(images, low_res)
    _check_shape(expected, (len(images), plan.levels, plan.colors, *plan.image_size))
    if not expected.isfinite().any():
        return False
    request = make_request(model, image_size=plan.image_size, low_res=low_res)
    engine = choose_engine("auto", device, lambda kind: kind.unsupported_reason(plan, request))
    with _running():
        planned = engine(plan, request).record(images)
    _check_equal(planned, expected)
    return True


def _check_equal(planned: Tensor, expected: Tensor) -> None:
    """Compare finite logits within a tolerance, and NaN and infinities exactly.

    The tolerance of a logit is relative to its own size plus the median size. The median is not
    affected by the large numbers with which some networks forbid levels.
    """
    is_double = expected.dtype == torch.float64
    relative = 1e-9 if is_double else torch.finfo(expected.dtype).eps ** 0.5
    planned, expected = planned.double(), expected.double()
    is_finite = expected.isfinite()
    sizes = expected[is_finite & (expected != 0)].abs()
    scale = sizes.median() if len(sizes) else 0.0
    difference = (planned - expected).abs()
    is_close = difference <= relative * (expected.abs() + scale)
    is_equal = (planned == expected) | (planned.isnan() & expected.isnan())
    wrong = ~torch.where(is_finite, is_close, is_equal)  # [N, L, C, H, W]
    if wrong.any():
        largest = difference[wrong].nan_to_num(torch.inf).max()
        row, col, color = wrong.any(1).any(0).permute(1, 2, 0).nonzero()[0].tolist()
        raise PlanError(
            "the plan's logits differ from the forward's logits by up to "
            f"{float(largest):.2g}, first at row {row}, column {col}, color {color}: the planner "
            "misread an operation, or the forward is not a function of its inputs; "
            'method="ancestral" samples any causal model'
        )


def _random_images(plan: Plan, count: int, size: _Size, random: torch.Generator) -> Tensor:
    shape = (count, plan.colors, *size)
    return torch.randint(plan.levels, shape, generator=random, dtype=torch.uint8, device="cpu")


def _check_shape(logits: Tensor, expected: tuple[int, ...]) -> None:
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise PlanError(f"the model returns {found}, expected logits {list(expected)}")


def _randomize(model: nn.Module) -> None:
    """Draw the parameters with variance 1 / fan-in, but keep frozen masks of zeros and ones.

    The distribution is uniform, since normal numbers take five times as long.
    """
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        values = parameter.unique() if not parameter.requires_grad else None
        is_mask = values is not None and values.tolist() == [0, 1]
        if parameter.is_floating_point() and parameter.numel() and not is_mask:
            fan_in = parameter[0].numel() if parameter.dim() > 1 else parameter.numel()
            bound = (3 / fan_in) ** 0.5
            noise = torch.empty(parameter.shape, dtype=torch.float64, device="cpu")
            parameter.copy_(noise.uniform_(-bound, bound, generator=random))


def _reduced(plan: Plan, model: nn.Module, low_res_size: _Size | None) -> tuple[Plan, _Size | None]:
    """Return a plan with the same steps for a smaller image, or the plan itself if there is none.

    The smaller image still covers the receptive field of a position.
    """
    height, width = plan.image_size
    if height * width * plan.colors * plan.levels <= _MOST_LOGITS or not plan.is_local:
        return plan, low_res_size
    above, _, left, right = cells_of(plan).reach
    side = math.isqrt(_MOST_LOGITS // (plan.colors * plan.levels))
    size = min(height, max(side, above + 2)), min(width, max(side, left + right + 2))
    small = None
    if low_res_size is not None:
        times = height // low_res_size[0], width // low_res_size[1]
        small = -(-size[0] // times[0]), -(-size[1] // times[1])
        size = small[0] * times[0], small[1] * times[1]
    try:
        reduced = Planner(model, size, small).run()
    except PlanError:
        return plan, low_res_size
    return (reduced, small) if _steps(reduced) == _steps(plan) else (plan, low_res_size)


def _steps(plan: Plan) -> object:
    """Return everything in a plan that does not depend on the image size."""
    buffers = [dataclasses.replace(buffer, node=None) for buffer in plan.buffers.values()]  # type: ignore[arg-type]
    return plan.logits, plan.placed, plan.conditioning, plan.padding, buffers
