"""A cache of plans, by network and image size."""

import threading
import weakref
from collections import OrderedDict

from torch import nn

from pixelsr.errors import PlanError
from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.modules import unwrap

from .plan import Plan
from .plan.planner import Planner
from .plan.trace import left_as_it_was, takes_low_res
from .plan_check import check_plan
from .signature import Signature, traced_signature
from .weights import effective

_KEPT = 8  # plans per model, for several image sizes
_Size = tuple[int, int]
_Plans = OrderedDict[tuple[_Size, _Size | None], tuple[Signature, Plan]]
_cache: "weakref.WeakKeyDictionary[nn.Module, _Plans]" = weakref.WeakKeyDictionary()
_planning = threading.RLock()  # tracing temporarily replaces methods of nn.Module


@without_autocast()
def plan(model: nn.Module, image_size: _Size, low_res_size: _Size | None = None) -> Plan:
    """Return the plan with which `model` draws images of `image_size`.

    The plan is cached, and made again after a change of anything that the model's forward reads
    (see `signature`). A new plan is checked against the model's forward (see `check_plan`).

    Args:
        model: a network from images (and low_res) to logits, made of pixelsr.nn layers,
            convolutions and pointwise functions. Operations on low_res alone are unrestricted.
        image_size: height and width of the image.
        low_res_size: height and width of low_res, for a model that takes it.
    Raises:
        PlanError: the model is not causal (the message names layer, tap and channel), uses an
            operation that the planner does not support (the message names it), or needs a
            `low_res_size`.
        ValueError: the effective values of reparametrized weights hold NaN or infinity.
    """
    model = effective(unwrap(model))
    if low_res_size is None and takes_low_res(model)[1]:
        raise PlanError(f"{type(model).__name__} needs low_res_size for a plan")
    plans, key = _cache.setdefault(model, OrderedDict()), (image_size, low_res_size)
    with _planning, left_as_it_was(model):
        current, graph = traced_signature(model, low_res_size is not None)
        if key not in plans or plans[key][0] != current:
            made = Planner(model, image_size, low_res_size, graph).run()
            check_plan(made, model, low_res_size)
            kept, _ = traced_signature(model, low_res_size is not None, keep=True)
            plans[key] = kept, made
            while len(plans) > _KEPT:
                plans.popitem(last=False)
        plans.move_to_end(key)
        return plans[key][1]
