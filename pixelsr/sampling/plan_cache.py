"""Plans, each made once for a network as it stands and an image size, and checked against it."""

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

_KEPT = 8  # plans of one model: for several image sizes
_Size = tuple[int, int]
_Plans = OrderedDict[tuple[_Size, _Size | None], tuple[Signature, Plan]]
_cache: "weakref.WeakKeyDictionary[nn.Module, _Plans]" = weakref.WeakKeyDictionary()
_planning = threading.RLock()  # tracing exchanges methods of nn.Module for the time that it takes


@without_autocast()
def plan(model: nn.Module, image_size: _Size, low_res_size: _Size | None = None) -> Plan:
    """Return the plan by which `model` draws images of `image_size`.

    It is made once, and again when anything has changed that the model's forward reads, see
    `signature`. A new plan is compared with the model's own forward, see `check_plan`.

    Args:
        model: from images (and a small image) to logits; made of pixelsr.nn layers, convolutions
            and pointwise functions. Operations on the small image alone may be anything.
        image_size: height and width of the image.
        low_res_size: height and width of the small image, for a model that takes one.
    Raises:
        PlanError: the model is not causal (the message names layer, tap and channel), uses an
            operation that the planner does not support (the message names it), or needs a
            `low_res_size`.
        ValueError: reparametrized weights come to NaN or infinity.
    """
    model = effective(unwrap(model))
    if low_res_size is None and takes_low_res(model)[1]:
        raise PlanError(f"{type(model).__name__} needs the size of a low_res to be planned")
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
