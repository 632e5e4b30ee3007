"""Makes the plan of a network, and checks it before it is used."""

import contextlib

import torch
from torch import nn

from pixelsr.errors import NotCausal, PlanError
from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.modules import can_copy, copy_model

from .binding import bind
from .plan import Plan
from .plan.tape import TapeChanged
from .plan_check import check_plan
from .random_weights import randomize
from .recording import plan_of_forward
from .request import Request


@torch.inference_mode(False)
@torch.no_grad()
@without_autocast()
def make_checked_plan(request: Request) -> Plan:
    """Return the plan for a request after it has been compared with the network's own forward.

    Which weights may be zero is a matter of the network's structure, not of its trained values: the
    plan is made from a copy with random parameters, in which only masks are zero. If that copy is
    not causal (masks that are applied only by the optimizer), the plan is made from the zeros as
    they are, and is valid only as long as they are zero. If the network computes something else for
    its own parameters than for random ones (it branches on them), the plan is made from itself.

    Raises:
        NotCausal, UnsupportedOperation, PlanError: the network cannot be planned.
    """
    model = request.model
    for keep_zeros in (False, True) if can_copy(model) else ():
        copied = randomize(copy_model(model), keep_zeros=keep_zeros)
        with contextlib.suppress(NotCausal, TapeChanged):
            return _checked(request, copied, keep_zeros=keep_zeros)
    try:
        return _checked(request, model, keep_zeros=True)
    except TapeChanged:
        raise PlanError(f"the forward of {type(model).__name__} changes with each call") from None


def _checked(request: Request, model: nn.Module, *, keep_zeros: bool) -> Plan:
    low_res = None if request.low_res is None else request.low_res[:1]
    made = plan_of_forward(model, request.colors, request.levels, request.image_size, low_res)
    check_plan(made, model, request.model, low_res, keep_zeros=keep_zeros)
    bind(made, request)
    return made
