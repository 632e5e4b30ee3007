"""The check of a plan at its birth: its logits for a random image are those of the forward."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..copies import can_copy, copy_together
from ..errors import PlanError
from .engines import choose_engine
from .plan import Plan
from .plan.planner import Planner
from .request import make_request

_Size = tuple[int, int]

_MOST_LOGITS = 2**22
"""A plan for a larger image is checked by the same steps at a smaller size."""


@torch.inference_mode(False)
@torch.no_grad()
def check_plan(plan: Plan, model: nn.Module, low_res_size: _Size | None) -> None:
    """Compare the logits of a new plan with the model's own forward, at every position.

    Both run on one random image, on copies in float64 on the CPU with random parameters, since
    untrained ones (biases of zero, say) hide mistakes: equal to a relative 1e-9. Where the forward
    insists on a dtype or a device of its own, the model itself runs, and they are equal to the
    square root of its dtype's machine epsilon.

    Raises:
        PlanError: they differ; the message names the first position.
    """
    plan, low_res_size = _reduced(plan, model, low_res_size)
    if not _agree_in_float64(plan, model, low_res_size):
        epsilon = torch.finfo(next(model.parameters()).dtype).eps
        try:
            _agree(plan, model, low_res_size, tolerance=epsilon**0.5)
        except RuntimeError as error:
            raise PlanError(f"the plan of this network cannot be run: {error}") from error


def _agree_in_float64(plan: Plan, model: nn.Module, low_res_size: _Size | None) -> bool:
    """Check copies in float64; return False where they cannot run, or give NaN or infinity."""
    for draw_parameters in (True, False) if can_copy(model) else ():
        try:
            own, image_stage = copy_together(model, plan.image_stage)
            own.to("cpu", torch.float64)
            if draw_parameters:
                _randomise(own)
            copied = dataclasses.replace(plan, image_stage=_in_float64(image_stage))
            if _agree(copied, own, low_res_size, tolerance=1e-9):
                return True
        except PlanError:
            raise
        except (RuntimeError, TypeError, ValueError):  # no copies, or no other dtype or device
            return False
    return False


def _in_float64(stage: fx.GraphModule | None) -> fx.GraphModule | None:
    """Change a copied image stage to float64, the dtypes that its graph names included."""

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


def _agree(plan: Plan, model: nn.Module, low_res_size: _Size | None, tolerance: float) -> bool:
    """Compare the logits of a random image; return False where the forward gives no finite ones."""
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(0)
    images = _random_image(plan, plan.image_size, random).to(device)
    inputs = [images]
    if low_res_size is not None:
        inputs.append(_random_image(plan, low_res_size, random).to(device))
    expected = model(*inputs)
    _check_shape(expected, (1, plan.levels, plan.colours, *plan.image_size))
    if not torch.isfinite(expected).all():
        return False
    low_res = inputs[1] if low_res_size is not None else None
    request = make_request(model, 1, plan.image_size, low_res, None, None, 0, "model")
    engine = choose_engine("auto", device, lambda kind: kind.why_not(plan, request))
    planned = engine(plan, request).record(images)
    difference = (planned - expected).abs().nan_to_num(torch.inf)
    wrong = difference > tolerance * expected.abs().max()  # [1, L, C, H, W]
    if wrong.any():
        _refuse(wrong, difference)
    return True


def _random_image(plan: Plan, size: _Size, random: torch.Generator) -> Tensor:
    shape = (1, plan.colours, *size)
    return torch.randint(plan.levels, shape, generator=random, dtype=torch.uint8, device="cpu")


def _refuse(wrong: Tensor, difference: Tensor) -> None:
    row, col, colour = wrong[0].any(0).permute(1, 2, 0).nonzero()[0].tolist()
    raise PlanError(
        f"the plan of this network gives logits that differ from those of its forward, by up to "
        f"{float(difference.max()):.2g}, first at row {row}, column {col}, colour {colour}: "
        "an operation was not understood, or the forward is not a function of its inputs; "
        'method="ancestral" samples any causal model'
    )


def _check_shape(logits: Tensor, expected: tuple[int, ...]) -> None:
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise PlanError(f"the model gives {found}, expected logits {list(expected)}")


def _randomise(model: nn.Module) -> None:
    """Draw the parameters that can be trained from N(0, 1 / fan-in)."""
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.numel():
            fan_in = parameter[0].numel() if parameter.dim() > 1 else parameter.numel()
            noise = torch.empty(parameter.shape, dtype=torch.float64, device="cpu")
            parameter.copy_(noise.normal_(generator=random) * fan_in**-0.5)


def _reduced(plan: Plan, model: nn.Module, low_res_size: _Size | None) -> tuple[Plan, _Size | None]:
    """Return the plan for a smaller image, where it has the same steps; else the plan itself."""
    height, width = plan.image_size
    times = 1
    while height * width * plan.colours * plan.levels > _MOST_LOGITS * times**2:
        times += 1
    if times == 1:
        return plan, low_res_size
    if low_res_size is None:
        size, small = (-(-height // times), -(-width // times)), None
    else:
        small = (-(-low_res_size[0] // times), -(-low_res_size[1] // times))
        size = (height // low_res_size[0] * small[0], width // low_res_size[1] * small[1])
    try:
        reduced = Planner(model, size, small).run()
    except PlanError:
        return plan, low_res_size
    return (reduced, small) if _steps(reduced) == _steps(plan) else (plan, low_res_size)


def _steps(plan: Plan) -> object:
    """Return all of a plan but the image size."""
    buffers = [dataclasses.replace(buffer, node=None) for buffer in plan.buffers.values()]  # type: ignore[arg-type]
    return plan.logits, plan.placed, plan.values, plan.padding, buffers
