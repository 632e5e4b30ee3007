"""Tests that PyTorch's modes and tensor subclasses see the calls of functions as one operation."""

import inspect
from typing import ClassVar

import pytest
import torch
from torch.overrides import TorchFunctionMode

from pixelsr import functional
from tests.support.helpers import normal

GATES, BOTH, STATE = normal(2, 8, 5, 4), normal(2, 16, 5, 4), normal(2, 2, seed=1)
TAPS, DIAGONAL = normal(8, 2, 3, seed=2), normal(8, 2, 2, seed=2)
X, WEIGHT, BIAS, ADD = normal(2, 3, 5, 4), normal(6, 3, 3, 3), normal(6), normal(2, 6, 5, 4)
CONV = {"mask_type": "A", "colors": 3, "dilation": 1}
LSTM_BACKENDS = ("auto", "cpu", "scan", "reference")
CALLS = [
    *(("row_lstm", (GATES, TAPS, STATE), {"backend": backend}) for backend in LSTM_BACKENDS),
    *(("diagonal_lstm", (GATES, DIAGONAL, STATE), {"backend": name}) for name in LSTM_BACKENDS),
    *(
        ("diagonal_bilstm", (BOTH, DIAGONAL, STATE, DIAGONAL, STATE), {"backend": backend})
        for backend in LSTM_BACKENDS
    ),
    *(("gate", (GATES,), {"backend": backend}) for backend in ("auto", "reference")),
    *(
        (name, (X, WEIGHT), {"bias": BIAS, "add": ADD, "backend": backend, **CONV})
        for name in ("masked_conv2d", "masked_conv2d_gate")
        for backend in ("auto", "cropped", "reference")
    ),
    ("row_lstm", (GATES[0], TAPS, STATE), {}),
    ("gate", (GATES[0],), {}),
    ("masked_conv2d_gate", (X[0], WEIGHT), CONV),
    ("masked_conv2d", (), {"x": X, "weight": WEIGHT, **CONV}),
]
IDS = [
    f"{name}-{options.get('backend', number)}" for number, (name, _, options) in enumerate(CALLS)
]
every_call = pytest.mark.parametrize(("name", "args", "options"), CALLS, ids=IDS)


class Recorder(TorchFunctionMode):
    """Records the calls of pixelsr's functions; `enter` also those that they make themselves."""

    def __init__(self, enter=False):
        super().__init__()
        self.enter, self.calls = enter, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not (getattr(func, "__module__", None) or "").startswith("pixelsr."):
            return func(*args, **kwargs)
        self.calls.append((func, args, kwargs))
        if not self.enter:
            return func(*args, **kwargs)
        with self:
            return func.__wrapped__(*args, **kwargs)


class Subclass(torch.Tensor):
    """A tensor that records the functions of pixelsr to which it is given."""

    calls: ClassVar = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.calls.append((func, args, kwargs))
        return super().__torch_function__(func, types, args, kwargs or {})


def bits(out):
    return torch.cat([each.reshape(-1) for each in (out if isinstance(out, tuple) else [out])])


@every_call
def test_a_mode_sees_one_call_with_its_arguments_as_given(name, args, options):
    function = getattr(functional, name)
    expected = function(*args, **options)
    with Recorder() as mode:
        out = function(*args, **options)
    ((seen, seen_args, seen_options),) = mode.calls
    assert seen is function
    assert len(seen_args) == len(args)
    assert all(a is b for a, b in zip(seen_args, args, strict=True))
    assert seen_options.keys() == options.keys()
    assert all(seen_options[key] is value for key, value in options.items())
    assert torch.equal(bits(out), bits(expected))


@pytest.mark.parametrize("outer", [lambda: torch.device("meta"), Recorder], ids=["device", "mode"])
@every_call
def test_modes_may_be_nested(name, args, options, outer):
    function = getattr(functional, name)
    expected = function(*args, **options)
    with outer(), Recorder() as mode:
        out = function(*args, **options)
    assert [call[0] for call in mode.calls] == [function]
    assert torch.equal(bits(out), bits(expected))


@every_call
def test_a_default_device_changes_nothing(name, args, options):
    function = getattr(functional, name)
    expected = function(*args, **options)
    with torch.device("meta"):
        assert torch.equal(bits(function(*args, **options)), bits(expected))


def test_a_mode_that_enters_itself_again_sees_a_convolution_and_a_gate():
    expected = functional.masked_conv2d_gate(X, WEIGHT, BIAS, add=ADD, **CONV)
    with Recorder(enter=True) as mode:
        out = functional.masked_conv2d_gate(X, WEIGHT, BIAS, add=ADD, **CONV)
    assert [call[0] for call in mode.calls] == [
        functional.masked_conv2d_gate,
        functional.masked_conv2d,
        functional.gate,
    ]
    assert torch.equal(bits(out), bits(expected))


@pytest.mark.parametrize("place", ["x", "weight", "bias", "add"])
def test_a_tensor_subclass_sees_the_call(place):
    given = {"x": X, "weight": WEIGHT, "bias": BIAS, "add": ADD}
    expected = functional.masked_conv2d(**given, **CONV)
    given[place] = given[place].as_subclass(Subclass)
    Subclass.calls.clear()
    out = functional.masked_conv2d(**given, **CONV)
    assert isinstance(out, Subclass)
    assert [call[0] for call in Subclass.calls][:1] == [functional.masked_conv2d]
    assert torch.equal(out.as_subclass(torch.Tensor), expected)


def test_a_mode_may_answer_in_the_place_of_a_function():
    class Zero(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return 0 if func is functional.gate else func(*args, **(kwargs or {}))

    with Zero():
        assert functional.gate("what is no tensor") == 0


def test_a_function_keeps_its_name_signature_and_documentation():
    assert functional.gate.__qualname__ == "gate"
    assert str(inspect.signature(functional.gate)).startswith("(x: torch.Tensor, *, backend: str")
    assert inspect.getdoc(functional.gate).startswith("Return ``tanh(a) * sigmoid(b)``")


@pytest.mark.parametrize(
    ("name", "args", "options"), [call for call in CALLS if call[2].get("backend") == "auto"]
)
def test_a_call_compiles_as_one_graph_whatever_the_default_device(name, args, options):
    function = getattr(functional, name)
    expected = function(*args, **options)
    torch.compiler.reset()
    with torch.device("cpu"):
        out = torch.compile(function, fullgraph=True, backend="eager")(*args, **options)
    assert torch.equal(bits(out), bits(expected))


def test_functions_do_not_share_the_limit_of_recompilations():
    codes = {getattr(functional, name).__code__ for name, _, _ in CALLS}
    assert len(codes) == len({name for name, _, _ in CALLS})
