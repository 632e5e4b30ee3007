"""Records the forward pass of a network, and makes a plan of it."""

import torch
from torch import Tensor, nn

from pixelsr.errors import PlanError
from pixelsr.utils.modules import left_as_it_was

from .plan import Plan
from .plan.planner import make_plan
from .plan.tape import Pass, TapeChanged, run

_CHANGES = (
    "its forward computes something else for other images: it branches on their values; "
    'method="ancestral" works for any causal network'
)
_RANDOM = (
    "its forward gives different logits for the same images, so it is not a function of its "
    "inputs; call model.eval() first if it drops features at random"
)


@torch.inference_mode(False)
@torch.no_grad()
def plan_of_forward(
    model: nn.Module, colors: int, levels: int, image_size: tuple[int, int], low_res: Tensor | None
) -> Plan:
    """Return the plan of a network's forward pass at its current parameters, unchecked.

    Args:
        low_res: uint8 ``[1, C, h, w]``, for a model that takes it.
    Raises:
        NotCausal, UnsupportedOperation, PlanError: the network cannot be planned.
    """
    passed = _recorded(model, colors, levels, image_size, low_res)
    return make_plan(passed, colors, levels, image_size)


def _recorded(
    model: nn.Module, colors: int, levels: int, image_size: tuple[int, int], low_res: Tensor | None
) -> Pass:
    """Record a pass of a random image, and check that other images take the same operations."""
    random = torch.Generator().manual_seed(0)
    shape = (1, colors, *image_size)
    images = torch.randint(levels, shape, generator=random, dtype=torch.uint8, device="cpu")
    images = images.to(next(model.parameters()).device)
    inputs = () if low_res is None else (low_res.clone(),)  # not an inference tensor
    name = type(model).__name__
    with left_as_it_was(model):
        passed = run(model, images, inputs)
        try:
            again = run(model, images, inputs, follow=passed.tape)
        except TapeChanged:
            raise PlanError(f"{name} cannot be planned: {_RANDOM}") from None
        if not _equal(passed.logits, again.logits):
            raise PlanError(f"{name} cannot be planned: {_RANDOM}")
        for value in (0, levels - 1):
            try:
                run(model, torch.full_like(images, value), inputs, follow=passed.tape)
            except TapeChanged:
                raise PlanError(f"{name} cannot be planned: {_CHANGES}") from None
    return passed


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
