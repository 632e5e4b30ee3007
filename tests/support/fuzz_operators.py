"""Call the C++ operators with damaged arguments; test_operators_fuzz runs this file.

    python -m tests.support.fuzz_operators FIRST COUNT

Each case is printed before it runs, so the last line names the case that killed the process or
hangs. A case depends only on its number: the first cases change each number of a program in turn,
the others are random.
"""

import ctypes
import itertools
import mmap
import random
import sys
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import sampling
from pixelsr.sampling.engines.cpu import engine as cpu_engine
from pixelsr.sampling.incremental import maps_cpu
from pixelsr.sampling.methods import start_engine
from tests.support.networks import inputs, network
from tests.support.sampling import request_of

SIZE = (4, 4)
NUMBERS = [0, 1, -1, 2, 3, 5, 7, 16, 100, 10_000, 10**6, 2**31, 2**47, 2**62, -(2**62), 2**63 - 1]
FLOATS = [0.0, 0.5, -1.0, 1e300, float("nan"), float("inf"), -float("inf")]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.uint8]
DTYPES += [torch.bool, torch.complex64]
CHANGES = [1, 10**6]

_sessions = itertools.count(2**32)  # ids that no engine uses


class Call(NamedTuple):
    """An operator, and arguments that it accepts."""

    name: str
    arguments: list[Any]


class Recorder:
    """A stand-in for `torch.ops.pixelsr` that records the first call of each operator."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> None:
            copies = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
            self.calls.setdefault(name, Call(name, copies))
            getattr(torch.ops.pixelsr, name)(*arguments)

        return call


# Valid calls.


def good_calls() -> list[Call]:
    """Return one call of each kind, with the arguments of real draws and edits."""
    gated = network("GatedPixelCNN", torch.float32)
    half = torch.zeros(1, 3, *SIZE, dtype=torch.bool)
    half[:, :, :2, :3] = True
    known = {"known": half.byte(), "known_mask": half}
    return [
        _drawn(gated),
        _drawn(network("Dilated"), **known),
        _drawn(gated, weights="bfloat16"),
        _drawn(network("PixelRecursiveSR-gated", torch.float32)),
        _drawn(network("DiagonalBiLSTM", torch.float32)),
        _drawn(network("Unpadded")),
        _recorded(gated),
        _edited(gated),
        _edited(network("Concatenated")),
        *_recurrences(torch.float32, diagonal=False),
        *_recurrences(torch.float64, diagonal=True),
        Call("gumbel_noise_", [torch.zeros(2, 3, 5), 0, 0, 0]),
    ]


def _drawn(model: nn.Module, **options: Any) -> Call:
    for _ in range(2):  # the first time, the plan check draws too
        cpu_engine.operators = recorder = Recorder()
        pixelsr.sample(model, 2, **inputs(model, size=SIZE), engine="cpu", **options)
    return recorder.calls["run_plan_"]


def _recorded(model: nn.Module) -> Call:
    cpu_engine.operators = recorder = Recorder()
    request = request_of(model, 2, SIZE)
    start_engine("cpu", request).record(torch.ones(2, 3, *SIZE, dtype=torch.uint8))
    return recorder.calls["run_plan_"]


def _edited(model: nn.Module) -> Call:
    images = torch.zeros(2, 3, *SIZE, dtype=torch.uint8)
    state = sampling.incremental_logits(model, images, engine="cpu")
    maps_cpu.operators = recorder = Recorder()
    state.edit(images + 1, torch.ones_like(images, dtype=torch.bool))
    return recorder.calls["run_cells_"]


def _recurrences(dtype: torch.dtype, *, diagonal: bool) -> list[Call]:
    n, h, taps = 2, 3, 2 if diagonal else 3

    def planes(channels: int) -> Tensor:
        return torch.ones(n, channels, *SIZE, dtype=dtype)

    def last(channels: int) -> Tensor:
        return planes(channels).contiguous(memory_format=torch.channels_last)

    initial = torch.ones(2, h, dtype=dtype)
    matrix = torch.ones(taps * h, 4 * h, dtype=dtype)
    turned = torch.ones(taps * 4 * h, h, dtype=dtype)
    kept = [last(h), last(4 * h)]
    of_hidden = [planes(h), turned, initial, last(h)]
    of_parameters = [torch.ones(taps, h, 4 * h, dtype=dtype), torch.ones(n, h, dtype=dtype)]
    return [
        Call(
            "lstm_scan_",
            [planes(4 * h), matrix, initial, last(h), *kept, diagonal, False, 0, 2],
        ),
        Call(
            "lstm_scan_grad_",
            [*of_hidden, *kept, planes(4 * h), *of_parameters, diagonal, False, 2],
        ),
    ]


# Damaged calls.


def damaged(call: Call, rng: random.Random) -> tuple[str, list[Any]]:
    """Return a description, and the arguments with one or two of them damaged."""
    arguments = list(call.arguments)
    has_program = call.name in ("run_plan_", "run_cells_")
    chosen = [0] if has_program and rng.random() < 0.6 else []
    while not chosen or rng.random() < 0.2:
        chosen.append(rng.randrange(len(arguments)))
    words = []
    for number in chosen:
        damage, arguments[number] = _damage(arguments[number], rng)
        words.append(f"argument {number} {damage}")
    return f"{call.name}: {', '.join(words)}", arguments


def _damage(argument: Any, rng: random.Random) -> tuple[str, Any]:
    if isinstance(argument, bool):
        return "turned round", not argument
    if isinstance(argument, int):
        return "replaced", rng.choice(NUMBERS)
    if isinstance(argument, float):
        return "replaced", rng.choice(FLOATS)
    counts = not argument.is_floating_point() and not argument.is_complex()
    if counts and argument.numel() and rng.random() < 0.8:
        return "with other numbers", _with_other_numbers(argument, rng)
    return _reshaped(argument, rng)


def _with_other_numbers(tensor: Tensor, rng: random.Random) -> Tensor:
    """Replace some numbers by edge cases, by numbers near the old ones, or by one another."""
    flat = tensor.flatten().tolist()
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        place = rng.randrange(len(flat))
        flat[place] = rng.choice(
            [rng.choice(NUMBERS), flat[place] + rng.choice([-3, -2, -1, 1, 2, 3]), rng.choice(flat)]
        )
    if tensor.dtype != torch.int64:
        flat = [number % 2 for number in flat]
    limit = 2**63
    flat = [(number + limit) % (2 * limit) - limit for number in flat]
    return torch.tensor(flat, dtype=tensor.dtype).view(tensor.shape)


def swept(call: Call, number: int) -> tuple[str, list[Any]]:
    """Return a description, and the arguments with one number of the program changed."""
    program = call.arguments[0].clone()
    change, place = divmod(number, len(program))
    program[place] += CHANGES[change]
    return f"{call.name}: program[{place}] changed by {CHANGES[change]}", [
        program,
        *call.arguments[1:],
    ]


def _reshaped(tensor: Tensor, rng: random.Random) -> tuple[str, Tensor]:
    flat = tensor.flatten()
    kinds = {
        "empty": lambda: flat[:0],
        "of no dimension": lambda: torch.zeros((), dtype=tensor.dtype),
        "of one row": lambda: tensor[:1].clone(),
        "without a row": lambda: tensor[:-1].clone(),
        "half as long": lambda: flat[: flat.numel() // 2].clone(),
        "flat": lambda: flat.clone(),
        "twice as long": lambda: torch.cat([tensor, tensor]),
        "with gaps": lambda: torch.stack([tensor, tensor], -1)[..., 0],
        "expanded": lambda: flat[:1].expand(tensor.shape) if flat.numel() else tensor,
        "of another dtype": lambda: tensor.to(rng.choice(DTYPES)),
    }
    kind = rng.choice(list(kinds))
    return kind, kinds[kind]() if tensor.dim() else tensor


# Running a case.


def _guarded(tensor: Tensor, at_end: bool) -> Tensor:
    """Return a copy that ends, or begins, at a page that must not be accessed."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    extent = 1 + sum((size - 1) * stride for size, stride in steps)
    if extent != tensor.numel() or not extent:
        return tensor  # empty, not dense, or expanded
    size, page = extent * tensor.itemsize, mmap.PAGESIZE
    end = page - -size // page * page  # one guard page before and one after
    memory = mmap.mmap(-1, end + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (0, end):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + guard), page, 0) == 0
    begin = end - size if at_end else page
    flat = torch.frombuffer(memory, dtype=tensor.dtype, count=extent, offset=begin)
    return flat.as_strided(tensor.shape, tensor.stride()).copy_(tensor)


def _run(name: str, arguments: list[Any], at_end: bool = True) -> str:
    """Call an operator; return the error, or "ok"."""
    given = [_guarded(a, at_end) if isinstance(a, Tensor) else a for a in arguments]
    try:
        getattr(torch.ops.pixelsr, name)(*given)
    except (RuntimeError, ValueError, NotImplementedError, MemoryError, OverflowError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "ok"


def run_case(number: int, calls: list[Call]) -> None:
    """Run a case: a damaged call, alone or after the good call in the same session."""
    rng = random.Random(number)
    plans = [call for call in calls if call.name == "run_plan_"]
    call = min(plans, key=lambda call: len(call.arguments[0]))
    if number < len(CHANGES) * len(call.arguments[0]):
        description, arguments = swept(call, number)
    else:
        call = calls[number % len(calls)]
        description, arguments = damaged(call, rng)
    print(f"case {number}, {description}", flush=True)
    at_end = rng.random() < 0.7
    if call.name != "run_plan_":
        print("   ", _run(call.name, arguments, at_end))
        return
    session = next(_sessions)
    if rng.random() < 0.3:
        _run(call.name, [*call.arguments[:-1], session])
    print("   ", _run(call.name, [*arguments[:-1], session], at_end))
    torch.ops.pixelsr.forget_session(session)


if __name__ == "__main__":
    torch.set_num_threads(2)
    first, count = int(sys.argv[1]), int(sys.argv[2])
    calls = good_calls()
    for name, arguments in calls:
        print(f"good {name}", flush=True)
        if (outcome := _run(name, arguments)) != "ok":
            sys.exit(outcome)
    for number in range(first, first + count):
        run_case(number, calls)
    print("done")
