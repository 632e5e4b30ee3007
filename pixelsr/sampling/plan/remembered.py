"""Plans, each made once for a network as it stands and a size."""

import threading
import weakref
from typing import Any

from torch import nn

from ...functional.autocast import without_autocast
from .planner import Planner
from .steps import Plan

_Plans = dict[tuple[Any, ...], Plan]
_cache: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], _Plans]]"
_cache = weakref.WeakKeyDictionary()
_planning = threading.RLock()  # tracing exchanges methods of nn.Module for the time that it takes


@without_autocast()
def plan(
    model: nn.Module, image_size: tuple[int, int], low_res_size: tuple[int, int] | None = None
) -> Plan:
    """The plan by which `model` draws pictures of `image_size`; made once, then remembered.

    Args:
        model: from images (and a small picture) to logits; made of pixelsr.nn layers,
            convolutions and pointwise functions. What depends on the small picture alone may be
            anything.
        image_size: height and width of the picture.
        low_res_size: of the small picture, for a model that takes one.
    Raises:
        PlanError: the model is not causal (the message names layer, tap and channel), or does
            something that the planner does not know (the message names it).
    """
    current = structure(model)
    with _planning:
        if model not in _cache or _cache[model][0] != current:
            _cache[model] = current, {}
        plans, key = _cache[model][1], (image_size, low_res_size)
        if key not in plans:
            plans[key] = Planner(model, image_size, low_res_size).run()
        return plans[key]


def structure(model: nn.Module) -> tuple[Any, ...]:
    """All that a plan depends on: the modules, their modes and settings, and the parameters' types.

    A plan refers to modules and parameters themselves, so new values need no new plan.
    """
    modules = [(name, id(m), m.training, m.extra_repr()) for name, m in model.named_modules()]
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return tuple(modules), tuple((name, id(t), t.dtype, t.device) for name, t in tensors)
