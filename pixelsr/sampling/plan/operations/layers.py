"""The functions that are recorded as a whole, such as `functional.masked_conv2d`."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pixelsr import functional
from pixelsr.masks import causal_mask

from ..builder import Builder
from ..graph import Linear, Operand, Pointwise, Recurrence, Term
from ..origins import plain_layout
from ..tape import CONSTANT, Entry, Ref
from .linear import biases_of, whole
from .pointwise import A, B, gated


def _bound(entry: Entry) -> dict[str, Any]:
    """Return the arguments of a recorded function by name, with defaults."""
    bound = inspect.signature(entry.op).bind(*entry.args, **entry.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _operand(builder: Builder, x: Ref, *, pointwise: bool = False) -> Operand:
    """Return features ``[1, C, H, W]`` or ``[C, H, W]`` as an operand."""
    return builder.operand(builder.origins(x).reshape(x.shape[-3:]), pointwise=pointwise)


def _masked_conv2d(builder: Builder, entry: Entry) -> None:
    given = _bound(entry)
    x, weight, add = given["x"], given["weight"], given["add"]
    if weight.kind != CONSTANT:
        raise builder.unsupported("its weight is not a constant")
    out, into, height, width = weight.shape
    layer = {name: given[name] for name in ("mask_type", "colors", "in_parts", "out_parts")}
    live = causal_mask(into, out, (height, width), **layer, device="cpu").numpy()
    dilation = given["dilation"]
    rows = tuple(dilation * (r - height // 2) for r in range(height))
    cols = tuple(dilation * (c - width // 2) for c in range(width))
    operand = _operand(builder, x)
    term = Term(operand, builder.constant(weight.number, whole), live, rows, cols)
    op = Linear((term,), biases_of(builder, given["bias"], out))
    layout = plain_layout(entry.outs[0].shape)
    if add is None:
        builder.result(op, layout)
        return
    own = builder.whole(builder.add(op, out, operand.size))
    added = _operand(builder, add, pointwise=True)
    builder.result(Pointwise(("add", A, B), (own, added)), layout)


def _gate(builder: Builder, entry: Entry) -> None:
    gated(builder, _bound(entry)["x"], -3, ("mul", ("tanh", A), ("sigmoid", B)))


def _recurrence(*names: tuple[str, str]) -> Callable[[Builder, Entry], None]:
    """Return the handler of a recurrence; `names` are the weight and state of each direction."""

    def handler(builder: Builder, entry: Entry) -> None:
        given = _bound(entry)
        gates = _operand(builder, given["gates"])
        states = []
        for pair in names:
            weight, state = (given[name] for name in pair)
            if (weight.kind, state.kind) != (CONSTANT, CONSTANT):
                raise builder.unsupported("its weights and initial states must be constants")
            states.append(
                (builder.constant(weight.number, _one_row), builder.constant(state.number, whole))
            )
        taps = given[names[0][0]].shape[2]
        op = Recurrence(entry.name, gates, tuple(states), taps)
        builder.result(op, plain_layout(entry.outs[0].shape))

    return handler


def _one_row(weight: Tensor) -> Tensor:
    """Return a one-dimensional kernel ``[out, in, taps]`` as one of a single row."""
    return weight.unsqueeze(2)


LAYERS: dict[Any, Callable[[Builder, Entry], None]] = {
    functional.masked_conv2d: _masked_conv2d,
    functional.gate: _gate,
    functional.row_lstm: _recurrence(("weight", "initial_state")),
    functional.diagonal_bilstm: _recurrence(
        ("weight", "initial_state"), ("weight_reverse", "initial_state_reverse")
    ),
}
