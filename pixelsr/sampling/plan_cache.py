"""A cache of plans, by network and image size."""

import threading
import weakref
from collections import OrderedDict

import torch
from torch import nn

from pixelsr.errors import PlanError
from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.modules import unwrap

from .binding import bind, rebind
from .plan import Plan
from .plan.tape import TapeChanged
from .plan_making import make_checked_plan
from .request import Request, layout, make_request
from .signature import Signature, signature
from .weights import takes_low_res

_KEPT = 8  # plans per model, for several image sizes
_Size = tuple[int, int]
_Key = tuple[_Size, _Size | None]
_Plans = OrderedDict[int, tuple[_Key, Signature | None, Plan]]
_cache: "weakref.WeakKeyDictionary[nn.Module, _Plans]" = weakref.WeakKeyDictionary()
_planning = threading.RLock()


def plan(model: nn.Module, image_size: _Size, low_res_size: _Size | None = None) -> Plan:
    """Return the plan with which `model` draws images of `image_size`.

    The plan is cached, and made again after a change of anything that the model's forward reads.
    A new plan is checked against the model's forward (see `check_plan`).

    Args:
        model: a network from images (and low_res) to logits. Operations on low_res and on
            parameters alone are unrestricted.
        image_size: height and width of the image.
        low_res_size: height and width of low_res, for a model that takes it.
    Raises:
        NotCausal: a logit depends on a value that is drawn later; the message names it.
        UnsupportedOperation: the planner does not support an operation; the message names it.
        PlanError: the model needs a `low_res_size`, or its plan cannot be checked.
        ValueError: a weight is NaN or infinity.
    """
    model = unwrap(model)
    low_res = None
    if low_res_size is not None:
        colors, _ = layout(model)
        low_res = torch.zeros(1, colors, *low_res_size, dtype=torch.uint8)
    elif takes_low_res(model)[1]:
        raise PlanError(f"{type(model).__name__} needs low_res_size for a plan")
    return plan_of(make_request(model, image_size=image_size, low_res=low_res))


@without_autocast()
def plan_of(request: Request) -> Plan:
    """Return the plan for a request, bound to the network's current weights.

    Raises:
        PlanError: as for `plan`.
    """
    low_res = request.low_res
    low_res_size = None if low_res is None else (int(low_res.shape[2]), int(low_res.shape[3]))
    key = (request.image_size, low_res_size)
    with _planning:
        plans = _cache.setdefault(request.original, OrderedDict())
        current = signature(request.original)
        for number, (own, known, made) in reversed(plans.items()):
            if own == key and _is_valid(made, request, known, current):
                plans.move_to_end(number)
                return made
        made = make_checked_plan(request)
        plans[id(made)] = key, signature(request.original, keep=True), made
        while len(plans) > _KEPT:
            plans.popitem(last=False)
        return made


def _is_valid(
    made: Plan, request: Request, known: Signature | None, current: Signature | None
) -> bool:
    """Return True if the network still computes what the plan was made from, and bind the plan.

    A network of this library's and PyTorch's modules computes the same as long as its signature is
    the same. Any other may read anything, so its forward is followed again.
    """
    try:
        if known is not None and current is not None:
            if known != current:
                return False
            bind(made, request)
        else:
            rebind(made, request.model, request.weights_number, request.low_res)
    except TapeChanged:
        return False
    return True
