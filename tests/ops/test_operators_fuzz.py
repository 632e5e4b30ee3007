"""Tests of C++ operators with damaged arguments: they may raise, but never kill or hang."""

import random
from typing import Any

import pytest
import torch

from pixelsr import ops, sampling
from pixelsr.masks import channel_groups
from pixelsr.sampling.binding import bind
from pixelsr.sampling.engines.cpu import engine as cpu_engine
from pixelsr.sampling.engines.cpu import program as cpu_program
from pixelsr.sampling.request import make_request
from tests.support import fuzz_operators
from tests.support.networks import network
from tests.support.processes import module
from tests.support.processes import run as run_process
from tests.support.sampling import sample

pytestmark = pytest.mark.skipif(ops.WHY_NOT_COMPILED is not None, reason=str(ops.WHY_NOT_COMPILED))

CASES = 1600
SECONDS = 300  # for all cases; a sanitizer needs a minute
RUN_PLAN = [a.name for a in torch.ops.pixelsr.run_plan_.default._schema.arguments]


def test_no_damaged_argument_kills_the_process_or_hangs():
    child = run_process(module, "tests.support.fuzz_operators", 0, CASES, timeout=SECONDS)
    assert child.returncode == 0, f"{_last(child.stdout)}\n{child.stderr[-3000:]}"


def _last(output: str) -> str:
    return output.splitlines()[-1] if output else "it did not begin"


def test_a_case_of_the_fuzz_is_a_function_of_its_number():
    call = fuzz_operators.Call("run_cells_", [torch.arange(9), torch.ones(3)])
    once, again = (fuzz_operators.damaged(call, random.Random(4)) for _ in range(2))
    assert once[0] == again[0]
    assert torch.equal(once[1][0], again[1][0])


# One sentence that names the value.


@pytest.fixture
def drawn(monkeypatch) -> dict[str, Any]:
    """Yield the arguments of a call that draws two images of 6x4 pixels, in its own session."""
    recorder, model = fuzz_operators.Recorder(), network("GatedPixelCNN", torch.float32)
    sampling.plan(model, (6, 4))  # plan first, because the plan check draws too
    with monkeypatch.context() as patch:
        patch.setattr(cpu_engine, "operators", recorder)
        sample(model, n=2, engine="cpu")
    arguments = dict(zip(RUN_PLAN, recorder.calls["run_plan_"].arguments, strict=True))
    yield arguments | {"session": 2**40}
    torch.ops.pixelsr.forget_session(2**40)


def run(arguments: dict[str, Any], **others: Any) -> None:
    torch.ops.pixelsr.run_plan_(*(arguments | others).values())


def draw_again(arguments: dict[str, Any], **others: Any) -> None:
    for name in ("storage", "images"):
        arguments[name].zero_()
    arguments["cursor"].copy_(torch.tensor([0, 0, -1]))
    run(arguments, **others)


NAN = float("nan")
REFUSED = [
    ({"first_col": -1}, "first_col and cols must be columns of 4, got -1 and 4"),
    ({"cols": 5}, "first_col and cols must be columns of 4, got 0 and 5"),
    ({"rows": 0}, "rows must be a positive int, got 0"),
    ({"threads": 0}, "threads must be a positive int, got 0"),
    ({"temperature": NAN}, "temperature must be 0 or more, got nan"),
    ({"temperature": -1.0}, "temperature must be 0 or more, got -1"),
    ({"cursor": torch.tensor([7, 0, -1])}, "cursor must be a row of 6, .* got 7, 0, -1"),
    ({"cursor": torch.tensor([0, 4, 0])}, "cursor must be .* got 0, 4, 0"),
    ({"cursor": torch.tensor([0, 0, 3])}, "cursor must be .* got 0, 0, 3"),
    ({"images": torch.zeros(0, 3, 6, 4).byte()}, "images must hold a sample, got none"),
    ({"images": torch.zeros(2, 3, 4, 6).byte().mT}, r"got Byte \[2, 3, 6, 4\], not contiguous"),
    ({"values": torch.zeros(1, 1)}, "values of 1 numbers an input are 1 too many"),
    ({"values": torch.zeros(3, 0)}, "2 samples of 3 inputs"),
    ({"storage": torch.zeros(9)}, "storage must hold .* for each of 2 samples, got 9 values"),
    ({"logits": torch.zeros(1)}, "logits are recorded without a draw, got draw = True"),
    ({"logits": torch.zeros(1), "draw": False}, r"logits must be Float \[2, 3, 6, 4, 8\]"),
    ({"program": torch.zeros(0).long()}, "the program ends in the middle of a step"),
    (
        {"constants": torch.zeros(0)},
        "cannot be run: step 0 takes constant 0 of 0",
    ),
]


@pytest.mark.parametrize(("others", "message"), REFUSED)
def test_bad_arguments_are_refused_by_name(others, message, drawn):
    with pytest.raises(RuntimeError, match=message):
        run(drawn, **others)


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("GatedPixelCNN", lambda lists: [*lists, [0]], "step 0 runs 0 columns beyond the image"),
        ("GatedPixelCNN", lambda lists: [[10**6], *lists[1:]], "a list has the step 1000000 of"),
        ("GatedPixelCNN", lambda lists: lists[:3], "it has 3 lists of steps"),
        ("DiagonalBiLSTM", lambda lists: [*lists, lists[-1]], "runs 1 columns beyond the image"),
    ],
)
def test_steps_run_only_where_their_buffers_reach(name, changed, message):
    made = sampling.plan(network(name, torch.float32), (6, 4))
    model = network(name, torch.float32)
    binding = bind(made, make_request(model, image_size=(6, 4)))
    program = cpu_program.write_program(made, binding, torch.float32, torch.float32)
    moments = made.moments(range(len(made.placed)), made.placed.__getitem__)
    lists = [list(steps) for steps in (moments.row, moments.known_row, *moments.of_pixels)]

    def written(lists: list[list[int]]) -> torch.Tensor:
        numbers = [number for steps in lists for number in (len(steps), *steps)]
        return torch.tensor([len(lists), *numbers])

    end = len(program.code) - len(written(lists))
    assert torch.equal(program.code[end:], written(lists))
    damaged = torch.cat([program.code[:end], written(changed(lists))])
    call = fuzz_operators._drawn(model)
    arguments = dict(zip(RUN_PLAN, call.arguments, strict=True))
    with pytest.raises(RuntimeError, match=message):
        run(arguments, program=damaged, session=2**40)


def test_the_order_of_a_draw_has_to_fit_the_unknown_values(drawn):
    last_and_stop = drawn["last_and_stop"]
    for index, number, message in (
        ((0, 1, 2), 1, "the last unknown color 1 of pixel 6, expected 2"),
        ((0, 1, 2), 10**6, "the last unknown color 1000000 of pixel 6, expected 2"),
        ((1, 1, 2), 5, "has 5 stages of pixel 6, expected 0 to 4"),
    ):
        damaged = last_and_stop.clone()
        damaged[index] = number
        with pytest.raises(RuntimeError, match=message):
            run(drawn, last_and_stop=damaged)


def test_a_session_is_of_one_program_one_dtype_and_one_batch(drawn):
    run(drawn)
    run(drawn, program=drawn["program"].clone())  # an equal program
    other = drawn["program"].clone()
    other[0] += 1
    with pytest.raises(RuntimeError, match="program must be the one that the session began with"):
        run(drawn, program=other)
    doubles = {name: drawn[name].double() for name in ("weights", "constants", "storage", "values")}
    with pytest.raises(RuntimeError, match="began with features that are not Double"):
        run(drawn, **doubles)
    with pytest.raises(RuntimeError, match=r"images must be Byte \[2, 3, 6, 4\]"):
        run(drawn, images=drawn["images"][:1])
    with pytest.raises(RuntimeError, match="must be 0 and 4, with which the session began, got 0"):
        run(drawn, cols=3)


def test_what_was_read_once_may_change_afterwards(drawn):
    run(drawn)
    drawn["last_and_stop"].fill_(2**62)
    drawn["unknown"].fill_(False)
    images = drawn["images"].clone()
    draw_again(drawn)
    assert torch.equal(drawn["images"], images)


def test_more_threads_than_there_are_draw_the_same(drawn):
    run(drawn)
    images = drawn["images"].clone()
    for threads in (10_000, 2**62):
        draw_again(drawn, threads=threads)
        assert torch.equal(drawn["images"], images)


def test_a_step_that_reaches_a_row_below_is_refused(drawn):
    """Make the first product that reads a row above read a row below instead."""
    program = drawn["program"]
    for place in (program == -1).nonzero().flatten().tolist():
        damaged = program.clone()
        damaged[place] = 1
        try:
            run(drawn, program=damaged)
        except RuntimeError as error:
            if "reaches 1 rows away" in str(error):
                return
        torch.ops.pixelsr.forget_session(drawn["session"])
    pytest.fail("no step was refused")


def test_weights_of_16_bits_that_begin_within_a_word_are_refused(drawn):
    half = drawn["weights"].bfloat16()
    shifted = torch.cat([half[:1], half])[1:]
    with pytest.raises(RuntimeError, match="weights must begin at a multiple of 4 bytes"):
        run(drawn, weights=shifted)


def test_recurrences_of_no_cell_are_refused():
    h = torch.zeros(0, 4, 3, 4)
    arguments = (torch.zeros(12, 16), torch.zeros(2, 4), h, torch.zeros(0), torch.zeros(0))
    with pytest.raises(RuntimeError, match=r"at least one cell, got Float \[0, 4, 3, 4\]"):
        torch.ops.pixelsr.lstm_scan_(torch.zeros(0, 16, 3, 4), *arguments, False, False, 0, 1)


# Cases similar to those that the fuzzer found.


def test_images_in_another_memory_format_are_read_as_they_are():
    model = network("PixelRecursiveSR-gated")
    known = torch.randint(8, (1, 3, 6, 4), dtype=torch.uint8)
    mask = torch.rand(1, 3, 6, 4) < 0.5
    expected = sample(model, known=known, known_mask=mask, engine="cpu")
    last = {"memory_format": torch.channels_last}
    given = {"known": known.contiguous(**last), "known_mask": mask.contiguous(**last)}
    assert torch.equal(sample(model, **given, engine="cpu"), expected)


def test_colors_without_a_channel_take_no_time():
    assert channel_groups(4, 10**9) == (0, 1, 2, 3)


def test_more_padding_than_the_engine_takes_is_refused(monkeypatch):
    monkeypatch.setattr(cpu_program, "MAX_PADDING", 0)
    model = network("DiagonalBiLSTM")
    with pytest.raises(ValueError, match="its features are padded by 1 columns, more than 0"):
        sample(model, image_size=(3, 2), engine="cpu")
