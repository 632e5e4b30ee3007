"""The pass through a tape that builds its graph."""

import numpy as np

from pixelsr.errors import PlanError, UnsupportedOperation

from ..builder import Builder
from ..graph import Graph
from ..origins import Unstructured
from ..tape import Entry, Pass
from .layers import LAYERS
from .linear import LINEAR
from .lookup import LOOKUPS
from .moves import MOVES, move
from .normalization import NORMALIZATIONS
from .pointwise import POINTWISE, SELECTIONS, pointwise
from .reductions import REDUCTIONS

_OPERATIONS = LINEAR | LOOKUPS | NORMALIZATIONS | REDUCTIONS | SELECTIONS


def build(passed: Pass, colors: int, levels: int, image_size: tuple[int, int]) -> Graph:
    """Return the feature maps of a recorded pass of one image.

    Raises:
        UnsupportedOperation: the logits depend on an operation that no plan supports.
    """
    builder = Builder(passed, colors, levels, image_size)
    for number, entry in enumerate(passed.tape.entries):
        builder.entry, builder.entry_number = entry, number
        try:
            _apply(builder, entry)
        except UnsupportedOperation as error:
            _give_up(builder, entry, error)
        except Unstructured as error:
            _give_up(builder, entry, entry.unsupported(str(error)))
    result = passed.tape.result
    expected = (1, levels, colors, *image_size)
    if result.shape != expected:
        raise PlanError(f"the model returns {list(result.shape)}, expected logits {list(expected)}")
    logits = builder.origins(result)[0].swapaxes(0, 1).reshape(-1, *image_size)  # color-major
    try:
        builder.graph.logits = builder.operand(logits).reads
    except Unstructured as error:
        raise builder.unsupported(str(error)) from None
    return builder.graph


def _give_up(builder: Builder, entry: Entry, error: UnsupportedOperation) -> None:
    """Mark the results of an operation, so that `error` is raised if the logits need them."""
    origin = builder.poison(error)
    for ref, size in zip(entry.outs, entry.sizes, strict=True):
        builder.write(ref, size, np.array(origin))


def _apply(builder: Builder, entry: Entry) -> None:
    """Apply an operation to the builder."""
    name = entry.name
    if "out" in entry.kwargs:
        raise entry.unsupported("writes into a tensor that is given as `out`")
    if entry.op in LAYERS:
        LAYERS[entry.op](builder, entry)
    elif name in MOVES:
        move(builder, entry)
    elif name in POINTWISE:
        pointwise(builder, POINTWISE[name](*entry.args, **entry.kwargs))
    elif name in _OPERATIONS:
        _OPERATIONS[name](builder, *entry.args, **entry.kwargs)
    else:
        raise entry.unsupported("the planner does not know this operation")
