"""The values that a plan reads from a network at its current weights."""

import dataclasses
import itertools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from pixelsr.errors import PlanError
from pixelsr.functional.autocast import without_autocast
from pixelsr.utils.modules import left_as_it_was

from .plan import Plan
from .plan.graph import Given
from .plan.ir import Captured
from .plan.tape import CONDITION, CONSTANT, Pass, TapeChanged, run
from .request import Request

_numbers = itertools.count()
_KEPT = 8  # bindings of one model


@dataclass(frozen=True, eq=False)
class Binding:
    """The constants of a plan.

    Attributes:
        number: a number that identifies the values.
        weights_number: the number of the model's weights for which it was made.
        constants: the constants of the recorded pass, by number.
    """

    plan: Plan
    number: int
    weights_number: int
    constants: tuple[Tensor, ...]
    device: torch.device
    _made: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """Return a constant of the plan by its name."""
        if name not in self._made:
            self._made[name] = self.plan.graph.recipes[name](self.constants).to(self.device)
        return self._made[name]


_bindings: "weakref.WeakKeyDictionary[nn.Module, list[Binding]]" = weakref.WeakKeyDictionary()


def bind(plan: Plan, request: Request) -> Binding:
    """Return the constants that a plan reads from the network of a request.

    Raises:
        TapeChanged: the network no longer computes what the plan was made from.
    """
    for binding in _bindings.get(request.model, []):
        if binding.plan is plan and binding.weights_number == request.weights_number:
            return binding
    return rebind(plan, request.model, request.weights_number, request.low_res)


def rebind(plan: Plan, model: nn.Module, weights_number: int, low_res: Tensor | None) -> Binding:
    """Return the constants that a plan reads from a network, after they were computed again."""
    passed = follow(plan, model, low_res)
    kept = _bindings.setdefault(model, [])
    own = next((binding for binding in kept if binding.plan is plan), None)
    if own is not None and _equal(own.constants, passed.constants):
        binding = dataclasses.replace(own, weights_number=weights_number)
    else:
        check_constants(plan, passed.constants)
        constants = tuple(each.clone() for each in passed.constants)
        device = next(model.parameters()).device
        binding = Binding(plan, next(_numbers), weights_number, constants, device)
    _bindings[model] = [binding, *(each for each in kept if each.plan is not plan)][:_KEPT]
    return binding


def follow(plan: Plan, model: nn.Module, low_res: Tensor | None) -> Pass:
    """Compute what a network computes without the image, for the first low-resolution image.

    Raises:
        TapeChanged: the network no longer computes what the plan was made from.
    """
    device = next(model.parameters()).device
    images = torch.zeros(1, plan.colors, *plan.image_size, dtype=torch.uint8, device=device)
    inputs = () if low_res is None else (low_res[:1],)
    return run_quietly(model, images, inputs, plan, execute=False)


@torch.inference_mode(False)
@without_autocast()
def run_quietly(
    model: nn.Module,
    images: Tensor,
    inputs: tuple[Tensor, ...],
    plan: Plan,
    *,
    execute: bool,
    capture: tuple[int, ...] = (),
) -> Pass:
    """Run a network along a plan's tape, and leave the network's attributes as they were."""
    images = images.clone(memory_format=torch.contiguous_format)  # as it was recorded
    inputs = tuple(tensor.clone() for tensor in inputs)  # not made in inference mode
    with left_as_it_was(model):
        return run(model, images, inputs, follow=plan.tape, execute=execute, capture=capture)


def check_constants(plan: Plan, constants: tuple[Tensor, ...]) -> None:
    """Check what a plan assumes of constants: dead taps are zero, and indices are the same.

    Raises:
        TapeChanged: a constant has other values than the plan was made for.
    """
    graph = plan.graph
    for number, value in graph.fixed.items():
        if not _equal((constants[number],), (value,)):
            raise TapeChanged
    if any(bool(constants[number].any()) for number in graph.zeros):
        raise TapeChanged
    if any(bool((constants[number] != constants[number][:1]).any()) for number in graph.repeated):
        raise TapeChanged
    for name, live in graph.live.items():
        weight = graph.recipes[name](constants)
        if ((weight != 0).cpu().numpy() & ~live).any():
            raise TapeChanged


def _equal(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return len(a) == len(b) and all(
        x.dtype == y.dtype and x.device == y.device and torch.equal(x, y)
        for x, y in zip(a, b, strict=True)
    )


# Features that are given before the first pixel.


def given_features(plan: Plan, request: Request) -> Iterator[tuple[Tensor, ...]]:
    """Yield the given features of each input, as rows ``[H or 1, 1, W or 1, channels]``.

    PyTorch's rounding depends on the batch size, so inputs are processed one at a time.

    Raises:
        PlanError: the network converts an input to other Python values than the first one.
    """
    if not plan.conditioning and not plan.tape.values:
        return
    binding = bind(plan, request)
    inputs = [None] if request.low_res is None else list(request.low_res.split(1))
    kinds = {given.kind for given in plan.conditioning.values()}
    depends = CONDITION in kinds or bool(plan.tape.values)
    rows: tuple[Tensor, ...] = ()
    for number, low_res in enumerate(inputs):
        if depends:
            passed = _follow_input(plan, request.model, low_res, number)
            operands = {CONSTANT: passed.constants, CONDITION: passed.conditions}
        else:
            operands = {CONSTANT: binding.constants}
        if depends or number == 0:
            rows = tuple(
                _rows(plan, name, given, operands) for name, given in plan.conditioning.items()
            )
        yield rows


def _follow_input(plan: Plan, model: nn.Module, low_res: Tensor | None, number: int) -> Pass:
    try:
        return follow(plan, model, low_res)
    except TapeChanged:
        raise PlanError(
            f"the network computes something else for low-resolution image {number} than for the "
            "first one: it branches on their values; sample them one at a time"
        ) from None


def _rows(plan: Plan, name: str, given: Given, operands: dict[str, tuple[Tensor, ...]]) -> Tensor:
    """Return given features as rows, with zeros where they are not defined."""
    buffer = plan.buffers[name]
    height, width = plan.image_size[0], plan.image_size[1] + buffer.padding
    if given.values is not None:
        values = torch.from_numpy(given.values)
    else:
        index = given.index
        source = operands[given.kind][given.number].reshape(-1)
        uniform = (index == index[:, :1, :1]).all() and (index >= 0).all()
        fits = given.shift == (0, 0) and index.shape[1] >= height and index.shape[2] >= width
        if uniform and fits:
            return source[torch.from_numpy(index[:, 0, 0]).to(source.device)][None, None, None]
        chosen = torch.from_numpy(index).to(source.device)
        values = source[chosen.clamp(min=0)].where(chosen >= 0, 0)
    down, right = given.shift
    values = values[:, max(0, -down) : height - down, max(0, -right) : width - right]
    padded = values.new_zeros(len(values), height, width)
    top, left = max(0, down), max(0, right)
    padded[:, top : top + values.shape[1], left : left + values.shape[2]] = values
    return padded.permute(1, 2, 0).unsqueeze(1)  # [H, 1, W, channels]


# Features of known rows.


def captured_features(
    plan: Plan, request: Request, images: Tensor, low_res: Tensor | None
) -> dict[str, Tensor]:
    """Return the features of one image that rows below read, ``[H, 1, W, channels]`` by buffer.

    They come from a forward pass of the network itself.

    Args:
        images: uint8 ``[1, C, H, W]``.
        low_res: uint8 ``[1, C, h, w]``, for a model that takes it.
    """
    assert plan.prefill is not None
    wanted = tuple(sorted({place.entry for place in plan.prefill.values()}))
    inputs = () if low_res is None else (low_res,)
    passed = run_quietly(request.model, images, inputs, plan, execute=True, capture=wanted)
    return {
        name: _captured_rows(plan, place, passed.captured[place.entry][place.result])
        for name, place in plan.prefill.items()
    }


def _captured_rows(plan: Plan, place: Captured, result: Tensor) -> Tensor:
    height, width = plan.image_size
    index = place.layout.canonical(np.arange(result.numel()).reshape(place.layout.shape))
    values = result.reshape(-1)[torch.from_numpy(index).to(result.device)]
    values = values[:, : height - place.shift, :width]
    rows = values.new_zeros(height, 1, width, len(values))
    rows[place.shift : place.shift + values.shape[1], 0, : values.shape[2]] = values.permute(
        1, 2, 0
    )
    return rows
