"""Recording of a network's forward pass: the operations that depend on the drawn image.

A forward pass runs on real tensors, under modes that see every call. An operation is *constant*, or
it depends on a *condition* (the low-resolution image), or on the *image*. Only the last kind is
recorded; everything else is just computed, and its results appear on the tape as numbered operands.
"""

import functools
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pixelsr import functional
from pixelsr.errors import PlanError, UnsupportedOperation

IMAGE, CONDITION, CONSTANT = "image", "condition", "constant"


@dataclass(frozen=True)
class Ref:
    """A tensor on the tape: a view of a numbered storage, or a numbered constant or condition."""

    kind: str
    number: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Entry:
    """A recorded operation.

    Attributes:
        op: an ATen operation, or a function that is recorded as a whole.
        args, kwargs: its arguments, with a `Ref` in place of each tensor.
        outs: the tensors that it returns.
        sizes: the number of elements in the storage of each of them.
        module: the path of the module that calls it.
        source: file and line of the call.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: tuple[Ref, ...]
    sizes: tuple[int, ...]
    module: str = ""
    source: str = ""

    @functools.cached_property
    def key(self) -> tuple[Any, ...]:
        """Return what a pass that follows the tape must repeat."""
        return (self.op, _key(self.args, _key_of_ref), _key(self.kwargs, _key_of_ref))

    @property
    def name(self) -> str:
        """Return the name of the operation for messages, such as "convolution"."""
        if isinstance(self.op, str):
            return self.op
        packet = getattr(self.op, "overloadpacket", self.op)
        name = str(packet.__name__).strip("_")
        return "item" if name == "local_scalar_dense" else name

    def is_alias(self, storages: int) -> bool:
        """Return True if it returns a view of earlier storages, though its schema hides it."""
        is_mutable = getattr(getattr(self.op, "_schema", None), "is_mutable", False)
        return not is_mutable and any(ref.number < storages for ref in self.outs)

    def unsupported(self, why: str) -> UnsupportedOperation:
        """Return the error that names this operation and where it is called."""
        return UnsupportedOperation(
            why, operation=self.name, module=self.module, source=self.source
        )


@dataclass(frozen=True)
class Tape:
    """The recorded operations of one forward pass, for one batch shape and image size.

    Attributes:
        values: the values of conditions that the forward converted to Python numbers.
        conditional: the operations on conditions, with their options.
        result: the returned logits.
    """

    entries: tuple[Entry, ...]
    values: tuple[Any, ...]
    conditional: tuple[Any, ...]
    result: Ref


@dataclass(frozen=True)
class Pass:
    """The result of a forward pass under `run`.

    Attributes:
        tape: the recorded or followed tape.
        constants, conditions: the operands of recorded operations, by number.
        captured: the results of the requested entries, by number.
        logits: the network's result; without meaning if image operations were not executed.
    """

    tape: Tape
    constants: tuple[Tensor, ...]
    conditions: tuple[Tensor, ...]
    captured: dict[int, tuple[Tensor, ...]]
    logits: Tensor


class TapeChanged(BaseException):  # a signal that no network's own `except` takes
    """The forward pass differs from the tape that it was to follow."""


@torch.no_grad()
def run(
    model: nn.Module,
    images: Tensor,
    inputs: Sequence[Tensor] = (),
    *,
    follow: Tape | None = None,
    execute: bool = True,
    capture: Sequence[int] = (),
) -> Pass:
    """Run a network once and record, or follow, the operations that depend on the images.

    Args:
        images, inputs: the arguments of the network; `inputs` are conditions.
        follow: a tape that the pass must repeat.
        execute: False to compute only what does not depend on the images. This needs `follow`.
        capture: numbers of the entries whose results are kept.
    Raises:
        TapeChanged: the pass differs from `follow`.
        UnsupportedOperation: the network uses values of the images in Python, draws random
            numbers, or changes its own state by the images.
    """
    recorder = _Recorder(model, images, inputs, follow, execute, capture)
    with _Functions(recorder) if _sees_functions(follow, inputs) else nullcontext(), recorder:
        try:
            result = model(images, *inputs)
        except Exception:
            if recorder.refusal is not None:
                raise recorder.refusal from None
            raise
    if recorder.refusal is not None:  # the network went on after it
        raise recorder.refusal
    return recorder.finish(result)


def _sees_functions(follow: Tape | None, inputs: Sequence[Tensor]) -> bool:
    """Return False if a tape has no whole functions and no values, so that a mode less suffices."""
    return follow is None or bool(inputs) or any(entry.op in _WHOLE for entry in follow.entries)


class _Functions(TorchFunctionMode):
    """The mode that sees whole functions, and methods that read values without the dispatcher."""

    def __init__(self, recorder: "_Recorder") -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.masked_conv2d_gate:
            with self:
                return _gated(*args, **kwargs)
        if func in _WHOLE and self.recorder.kind_of((args, kwargs)) == IMAGE:
            return self.recorder.whole(func, args, kwargs)
        if func in _READS and args:
            return self.recorder.read(func, args, kwargs)
        return func(*args, **kwargs)


class _Recorder(TorchDispatchMode):
    """The mode that classifies every operation, and records those on images."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, or PyTorch would import its compiler, which takes seconds."""
        return False

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        inputs: Sequence[Tensor],
        follow: Tape | None,
        execute: bool,
        capture: Sequence[int],
    ) -> None:
        super().__init__()
        self.follow, self.execute, self.capture = follow, execute, set(capture)
        self.model = model
        self.entries: list[Entry] = []
        self.values: list[Any] = []
        self.conditional: list[Any] = []
        self.operands: dict[str, list[Tensor]] = {CONSTANT: [], CONDITION: []}
        self.numbers: dict[tuple[Any, ...], int] = {}
        self.captured: dict[int, tuple[Tensor, ...]] = {}
        self.kinds = {_storage(tensor): CONDITION for tensor in inputs}
        self.storages = {_storage(images): 0}
        self.made: set[int] = set()  # storages that this pass has created
        self.alive: list[Tensor] = [images, *inputs]  # so that no storage is used again
        self.suspended = False
        self.writes = Counter[int]()  # by storage; versions would miss writes through `.data`
        self.count = 0  # of operations on images
        self.refusal: UnsupportedOperation | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.suspended:
            return func(*args, **kwargs)
        kind = self.kind_of((args, kwargs))
        traits = _traits(func)
        if traits.is_random and _has_dropout(func, args, kwargs):
            raise self._refused(func, args, kwargs, _RANDOM)
        if traits.leaves_tape and kind != CONSTANT:
            return self.read(func, args, kwargs)
        if traits.is_dynamic and self.kind_of(args[traits.is_index :]) == IMAGE:
            raise self._refused(func, args, kwargs, _DYNAMIC)
        if kind != IMAGE or traits.is_by_shape:
            return self._other(func, args, kwargs, kind)
        return self.image(func, args, kwargs)

    # Operations on images.

    def image(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Record an operation on images, or compare it with the tape that is followed."""
        traits = _traits(func)
        if traits.is_view:
            return self._viewed(func, args, kwargs)
        changed = _written(traits, args, kwargs)
        for tensor in changed:
            self._promote(func, tensor, args, kwargs)
        expected = None if self.follow is None else self._expected(func, args, kwargs)
        if expected is None or self.execute or expected.is_alias(len(self.storages)):
            result = func(*args, **kwargs)
        else:
            result = changed[0] if changed else _placeholders(expected, args, kwargs)
        tensors = _tensors(result)
        if not isinstance(result, Tensor | tuple | list) or not tensors:
            raise self._refused(func, args, kwargs, _LEAVES_TAPE)
        for tensor in tensors:
            self._image_storage(tensor)
        if self.count in self.capture:
            self.captured[self.count] = tuple(tensor.clone() for tensor in tensors)
        if expected is None:
            self.entries.append(self.entry(func, args, kwargs, tensors))
        self.count += 1
        return result

    def _viewed(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return a view of image features, whose elements must stay the same numbers."""
        result = func(*args, **kwargs)
        if any(view.dtype != args[0].dtype for view in _tensors(result)):
            raise self._refused(func, args, kwargs, "views features as numbers of another dtype")
        return result

    def _expected(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Entry:
        """Return the next entry of the followed tape, if it is this operation.

        Raises:
            TapeChanged: it is another one.
        """
        assert self.follow is not None
        if self.count >= len(self.follow.entries):
            raise TapeChanged
        expected = self.follow.entries[self.count]
        if (func, _key(args, self._key), _key(kwargs, self._key)) != expected.key:
            raise TapeChanged
        return expected

    def _key(self, tensor: Tensor) -> tuple[Any, ...]:
        """Return what identifies an operand; see `_key_of_ref`."""
        kind = self._kind(tensor)
        if kind == IMAGE:
            view = tensor.shape, tensor.stride(), tensor.storage_offset()
            return (self.storages[_storage(tensor)], *view, _dtype_key(tensor.dtype))
        return (kind, self._number(tensor, kind), tensor.shape, _dtype_key(tensor.dtype))

    def whole(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Record a function of images as one operation."""
        self.suspended = True
        try:
            return self.image(func, args, kwargs)
        finally:
            self.suspended = False

    def _refused(
        self, func: Any, args: Any, kwargs: dict[str, Any], why: str
    ) -> UnsupportedOperation:
        """Return the error for an operation, and keep it in case that the network catches it."""
        self.refusal = self.entry(func, args, kwargs, ()).unsupported(why)
        return self.refusal

    def entry(self, func: Any, args: Any, kwargs: dict[str, Any], outs: Sequence[Tensor]) -> Entry:
        """Return the entry of an operation; where it is called matters only for a new tape."""
        module, source = ("", "") if self.follow else self._where()
        refs = tuple(map(self.ref, outs))
        sizes = tuple(_elements(tensor) for tensor in outs)
        args, kwargs = self._refs(args), self._refs(kwargs)
        return Entry(func, args, kwargs, refs, sizes, module, source)

    def _promote(self, func: Any, tensor: Tensor, args: Any, kwargs: dict[str, Any]) -> None:
        """Record that a constant tensor is about to take values that depend on the images."""
        storage = _storage(tensor)
        if storage in self.storages:
            return
        if storage not in self.made:
            why = "writes values of the images into a tensor that outlives the forward pass"
            raise self._refused(func, args, kwargs, why)
        whole = tensor.as_strided((_elements(tensor),), (1,), 0)
        before = whole.clone()
        self.alive.append(before)
        if self.follow is not None:
            self._expected("promote", (before,), {})
        operands = (self.ref(before),)
        self.kinds.pop(storage, None)
        self._image_storage(tensor)
        if self.follow is None:
            outs, sizes = (self.ref(whole),), (_elements(tensor),)
            self.entries.append(Entry("promote", operands, {}, outs, sizes, *self._where()))
        self.count += 1

    def _image_storage(self, tensor: Tensor) -> None:
        self.storages.setdefault(_storage(tensor), len(self.storages))
        self.alive.append(tensor)

    # Constants and conditions.

    def _other(self, func: Any, args: Any, kwargs: dict[str, Any], kind: str) -> Any:
        for tensor in _written(_traits(func), args, kwargs):
            self._freeze(tensor)
        result = self._created(func(*args, **kwargs), args, kwargs)
        if kind == CONDITION:
            self.conditional.append((func, _options(args), _options(kwargs)))
        for tensor in _tensors(result):
            if kind == CONDITION:
                self.kinds[_storage(tensor)] = CONDITION
        if kind == CONDITION and not isinstance(result, Tensor | tuple | list | type(None)):
            self.values.append(result)
        if kind == CONDITION and _traits(func).is_dynamic:
            self.values.append([tuple(tensor.shape) for tensor in _tensors(result)])
        return result

    def _created(self, result: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Remember the storages that an operation has created, and return its result."""
        given = set(map(_storage, _tensors((args, kwargs))))
        for tensor in _tensors(result):
            if _storage(tensor) not in given:
                self.made.add(_storage(tensor))
            self.alive.append(tensor)
        return result

    def _freeze(self, tensor: Tensor) -> None:
        """Copy operands that share a storage that is about to change."""
        storage = _storage(tensor)
        self.writes[storage] += 1
        for used in self.operands.values():
            for number, operand in enumerate(used):
                if _storage(operand) == storage:
                    used[number] = operand.clone()

    def read(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return values that leave the tape: allowed for constants, recorded for conditions."""
        kind = self.kind_of((args, kwargs))
        if kind == IMAGE:
            raise self._refused(func, args, kwargs, _LEAVES_TAPE)
        result = func(*args, **kwargs)
        if kind == CONDITION:
            self.values.append(result.tolist() if hasattr(result, "tolist") else result)
        return result

    def kind_of(self, arguments: Any) -> str:
        """Return what the tensors in nested arguments depend on."""
        kind = CONSTANT
        for tensor in _tensors(arguments):
            storage = _storage(tensor)
            if storage in self.storages:
                return IMAGE
            if storage in self.kinds:
                kind = CONDITION
        return kind

    def _kind(self, tensor: Tensor) -> str:
        storage = _storage(tensor)
        return IMAGE if storage in self.storages else self.kinds.get(storage, CONSTANT)

    # Operands.

    def ref(self, tensor: Tensor) -> Ref:
        """Return the description of a tensor, with a number for a new constant or condition."""
        kind = self._kind(tensor)
        if kind == IMAGE:
            number, offset = self.storages[_storage(tensor)], int(tensor.storage_offset())
            return Ref(kind, number, tuple(tensor.shape), tensor.stride(), offset, tensor.dtype)
        return Ref(kind, self._number(tensor, kind), tuple(tensor.shape), (), 0, tensor.dtype)

    def _number(self, tensor: Tensor, kind: str) -> int:
        """Return the number of a constant or condition; a new one for a new operand."""
        view = tensor.shape, tensor.stride(), tensor.storage_offset(), tensor.dtype
        key = (_storage(tensor), *view, self.writes[_storage(tensor)])
        if key not in self.numbers:
            used = self.operands[kind]
            self.numbers[key] = len(used)
            used.append(tensor)
            self.alive.append(tensor)
        return self.numbers[key]

    def _refs(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.ref(value)
        if isinstance(value, dict):
            return {key: self._refs(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return tuple(map(self._refs, value))
        return value

    @functools.cached_property
    def _names(self) -> dict[int, str]:
        return {id(module): name for name, module in self.model.named_modules()}

    def _where(self) -> tuple[str, str]:
        """Return the path of the innermost calling module, and the line of the user's code."""
        module = source = None
        frame = sys._getframe(2)
        while frame is not None and (module is None or source is None):
            own = frame.f_locals.get("self") if module is None else None
            if id(own) in self._names and isinstance(own, nn.Module):
                module = self._names[id(own)]
            if frame.f_code is run.__wrapped__.__code__:  # type: ignore[attr-defined]
                break
            name = frame.f_code.co_filename
            if source is None and not name.startswith(_LIBRARIES):
                source = f"{Path(name).name}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return module or "", source or ""

    def finish(self, result: Any) -> Pass:
        if not isinstance(result, Tensor):
            kind = type(result).__name__
            raise PlanError(f"the model returns a {kind}, expected logits alone")
        values, conditional = tuple(self.values), tuple(self.conditional)
        if self.follow is None:
            tape = Tape(tuple(self.entries), values, conditional, self.ref(result))
        else:
            tape = self.follow
            ended = self.count, values, conditional, self._key(result)
            expected = len(tape.entries), tape.values, tape.conditional, _key_of_ref(tape.result)
            if _key(ended) != _key(expected):
                raise TapeChanged
        return Pass(
            tape,
            tuple(tensor.detach() for tensor in self.operands[CONSTANT]),
            tuple(tensor.detach() for tensor in self.operands[CONDITION]),
            self.captured,
            result,
        )


_RANDOM = "draws random numbers; call model.eval() first if this is dropout"
_DYNAMIC = "returns a tensor whose shape depends on values of the images"
_LEAVES_TAPE = "turns values of the images into Python values, on which the forward may branch"
_LIBRARIES = (
    str(Path(torch.__file__).parent),
    str(Path(functional.__file__).parents[1]),
    "<",
)
_BY_SHAPE = {
    f"aten::{name}"
    for like in ("zeros", "ones", "full", "empty")
    for name in (f"{like}_like", f"new_{like}", "new_empty_strided", "sym_size")
}
"""Operations that read no value of their tensor argument, only its shape, dtype and device."""
_READS = {
    Tensor.tolist,
    Tensor.numpy,
    Tensor.__array__,
    Tensor.__dlpack__,
}
"""Methods that read values without an operation that a dispatch mode sees."""


def _gated(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Return what `functional.masked_conv2d_gate` returns, by a convolution and a gate."""
    y = functional.masked_conv2d(*args, **kwargs)
    return functional.gate(y), y


_WHOLE = {
    functional.masked_conv2d,
    functional.gate,
    functional.row_lstm,
    functional.diagonal_bilstm,
    F.one_hot,
}
"""Functions that are recorded as one operation, whatever backend runs them.

`one_hot` checks the range of its argument, which is harmless.
"""


def _placeholders(expected: Entry, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return uninitialized results for an operation that is not executed."""
    given = _tensors((args, kwargs))
    made = []
    for ref, size in zip(expected.outs, expected.sizes, strict=True):
        dtype, device = _dtype(ref, given, kwargs), given[0].device
        if ref.offset == 0 and size == math.prod(ref.shape):
            made.append(torch.empty_strided(ref.shape, ref.strides, dtype=dtype, device=device))
        else:
            whole = torch.empty(size, dtype=dtype, device=device)
            made.append(whole.as_strided(ref.shape, ref.strides, ref.offset))
    return made[0] if len(made) == 1 else tuple(made)


def _dtype(ref: Ref, given: Sequence[Tensor], kwargs: dict[str, Any]) -> torch.dtype:
    """Return the dtype of a result in a network that may be in another dtype than its tape's."""
    if not ref.dtype.is_floating_point:
        return ref.dtype
    floats = [tensor.dtype for tensor in given if tensor.is_floating_point()]
    return kwargs.get("dtype") or max(floats, key=lambda dtype: dtype.itemsize, default=ref.dtype)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _elements(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested arguments."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    found: list[Tensor] = []
    for item in value if isinstance(value, list | tuple) else ():
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, list | tuple | dict) and item:
            found += _tensors(item)
    return found


def _options(value: Any) -> Any:
    """Return nested arguments with None in place of tensors."""
    if isinstance(value, Tensor):
        return None
    if isinstance(value, dict):
        return {key: _options(item) for key, item in value.items()}
    return tuple(map(_options, value)) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class _Traits:
    """The properties of an operation that its schema states.

    Attributes:
        is_view: it returns views of its arguments.
        is_random: it draws random numbers.
        is_by_shape: it reads no value of a tensor, only its shape, dtype and device.
        is_dynamic: the shape of its result depends on values.
        is_index: it takes elements of its first argument at the indices in the second.
        leaves_tape: it returns a Python number.
        written: the place and name of each argument that it writes to.
    """

    is_view: bool
    is_random: bool
    is_by_shape: bool
    is_dynamic: bool
    is_index: bool
    leaves_tape: bool
    written: tuple[tuple[int, str], ...]


@functools.cache
def _traits(func: Any) -> _Traits:
    schema = getattr(func, "_schema", None)
    if schema is None:  # a function that is recorded as a whole
        return _Traits(False, False, False, False, False, False, ())
    written = tuple(
        (place, argument.name)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    return _Traits(
        func.is_view,
        torch.Tag.nondeterministic_seeded in func.tags,
        schema.name in _BY_SHAPE,
        torch.Tag.dynamic_output_shape in func.tags,
        schema.name == "aten::index",
        schema.name == "aten::_local_scalar_dense",
        written,
    )


def _has_dropout(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Return False for an attention kernel whose dropout is 0, which draws no random numbers."""
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    return "dropout_p" not in names or given.get("dropout_p", 0.0) != 0


def _written(traits: _Traits, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the arguments that an operation writes to."""
    return [
        tensor
        for place, name in traits.written
        for tensor in _tensors(args[place] if place < len(args) else kwargs.get(name))
    ]


def _key(value: Any, of_tensor: Callable[[Any], Any] | None = None) -> Any:
    """Return nested arguments in a form in which equality means the same operation.

    1, 1.0 and True differ, NaN equals NaN, and 0.0 is not -0.0. All floating-point dtypes are the
    same, because a plan does not depend on them.
    """
    if isinstance(value, list | tuple):
        return tuple([_key(item, of_tensor) for item in value])
    if isinstance(value, Tensor | Ref):
        assert of_tensor is not None
        return of_tensor(value)
    if isinstance(value, bool | float | complex):
        return repr(value)
    if isinstance(value, dict):
        return tuple([(key, _key(item, of_tensor)) for key, item in value.items()])
    return _dtype_key(value) if isinstance(value, torch.dtype) else value


def _key_of_ref(ref: Ref) -> tuple[Any, ...]:
    if ref.kind == IMAGE:
        return (ref.number, ref.shape, ref.strides, ref.offset, _dtype_key(ref.dtype))
    return (ref.kind, ref.number, ref.shape, _dtype_key(ref.dtype))


def _dtype_key(dtype: torch.dtype) -> Any:
    return "floating point" if dtype.is_floating_point else dtype
