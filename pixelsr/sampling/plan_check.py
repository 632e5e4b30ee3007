"""The check of a new plan, which compares its logits with those of the model's forward."""

import contextlib
import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pixelsr.errors import PlanError
from pixelsr.utils.modules import can_copy, copy_model

from .binding import bind
from .engines import choose_engine
from .plan import Plan
from .plan.dependencies import cells_of
from .plan.tape import TapeChanged
from .random_weights import randomize
from .recording import plan_of_forward
from .request import Request, make_request

_Size = tuple[int, int]

_MOST_LOGITS = 2**22
"""The most logits of a check; a plan with more is checked at a smaller image size."""

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""The exceptions of a forward that cannot run in another dtype or on another device."""


def check_plan(
    plan: Plan,
    planned: nn.Module,
    model: nn.Module,
    low_res: Tensor | None,
    *,
    keep_zeros: bool = False,
) -> None:
    """Check that a new plan gives the same logits as the model's forward at every position.

    Both run on two random images. The check uses copies with random parameters, since untrained
    parameters (for example zero biases) hide mistakes. The copies run in float64 on the CPU, with a
    relative tolerance of 1e-9. If the forward requires a particular dtype or device, the copies
    keep the model's own. If the model cannot be copied, it runs itself. In these two cases the
    relative tolerance is the square root of the dtype's epsilon.

    Args:
        planned: the network that the plan was made from, with the parameters of that time.
        low_res: uint8 ``[1, C, h, w]``, for a model that takes it; only its size matters.
        keep_zeros: True if the plan assumes that parameters which are zero stay zero.
    Raises:
        PlanError: the logits differ (the message names the first position), or the plan or the
            forward cannot run.
    """
    plan, low_res = _reduced(plan, planned, low_res)
    if can_copy(model):
        for make in (_float64_copy, _copy):
            with contextlib.suppress(_CannotRunError):
                if _compare(plan, make(model, keep_zeros), low_res):
                    return
    try:
        _compare(plan, model, low_res)
    except _CannotRunError as error:
        raise PlanError(f"the plan of this network cannot be checked: {error}") from error


class _CannotRunError(Exception):
    """The error for a network or a plan that cannot be copied or run."""


def _float64_copy(model: nn.Module, keep_zeros: bool) -> nn.Module:
    with _running():
        return _copy(model, keep_zeros).to("cpu", torch.float64)


def _copy(model: nn.Module, keep_zeros: bool) -> nn.Module:
    with _running():
        return randomize(copy_model(model), keep_zeros=keep_zeros)


@contextlib.contextmanager
def _running() -> Iterator[None]:
    """Convert the errors that a user's network may raise into `_CannotRunError`."""
    try:
        yield
    except (*_FAILURES, copy.Error, TapeChanged) as error:
        raise _CannotRunError(str(error)) from error


def _compare(plan: Plan, model: nn.Module, low_res: Tensor | None) -> bool:
    """Compare the logits of random images; return False if the forward gives no finite logit."""
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(0)
    images = _random_images(plan, plan.image_size, random).to(device)  # two, to see them mixed
    inputs: tuple[Tensor, ...] = ()
    if low_res is not None and plan.tape.values:  # other values may take another branch
        inputs = (low_res.repeat(2, 1, 1, 1).to(device),)
    elif low_res is not None:
        size = (int(low_res.shape[2]), int(low_res.shape[3]))
        inputs = (_random_images(plan, size, random).to(device),)
    with _running():
        expected = model(images, *inputs)
    _check_shape(expected, (len(images), plan.levels, plan.colors, *plan.image_size))
    if not expected.isfinite().any():
        return False
    count = 1 if inputs else len(images)
    request = make_request(
        model, count, image_size=plan.image_size, low_res=inputs[0] if inputs else None
    )
    with _running():
        plan = _of_dtype(plan, request)
        engine = choose_engine("auto", device, lambda kind: kind.unsupported_reason(plan, request))
        planned = engine(plan, request).record(images)
    _check_equal(planned, expected)
    return True


def _of_dtype(plan: Plan, request: Request) -> Plan:
    """Return a plan for a copy of the network in another dtype.

    This is the plan itself, unless the copy converts other features than the network does: then it
    is the plan of the copy, which must have the same steps.
    """
    try:
        bind(plan, request)
    except TapeChanged:
        low_res = None if request.low_res is None else request.low_res[:1]
        size = plan.image_size
        own = plan_of_forward(request.model, plan.colors, plan.levels, size, low_res)
        if _steps(own) != _steps(plan):
            raise
        return own
    return plan


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


def _random_images(plan: Plan, size: _Size, random: torch.Generator) -> Tensor:
    shape = (2, plan.colors, *size)
    return torch.randint(plan.levels, shape, generator=random, dtype=torch.uint8, device="cpu")


def _check_shape(logits: Tensor, expected: tuple[int, ...]) -> None:
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise PlanError(f"the model returns {found}, expected logits {list(expected)}")


def _reduced(plan: Plan, model: nn.Module, low_res: Tensor | None) -> tuple[Plan, Tensor | None]:
    """Return a plan with the same steps for a smaller image, or the plan itself if there is none.

    The smaller image still covers the receptive field of a position.
    """
    height, width = plan.image_size
    if height * width * plan.colors * plan.levels <= _MOST_LOGITS or not plan.is_local:
        return plan, low_res
    above, _, left, right = cells_of(plan).reach
    side = math.isqrt(_MOST_LOGITS // (plan.colors * plan.levels))
    size = min(height, max(side, above + 2)), min(width, max(side, left + right + 2))
    small = None
    if low_res is not None:
        times = height // low_res.shape[2], width // low_res.shape[3]
        rows, cols = -(-size[0] // times[0]), -(-size[1] // times[1])
        size, small = (rows * times[0], cols * times[1]), low_res[:, :, :rows, :cols].contiguous()
    try:
        reduced = plan_of_forward(model, plan.colors, plan.levels, size, small)
    except (PlanError, *_FAILURES):
        return plan, low_res
    return (reduced, small) if _steps(reduced) == _steps(plan) else (plan, low_res)


def _steps(plan: Plan) -> object:
    """Return everything in a plan that does not depend on the image size."""
    return plan.logits, plan.placed, [*plan.conditioning], plan.padding, [*plan.buffers.values()]
