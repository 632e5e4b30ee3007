"""Tests of what only the C++ engine has: threads, sessions, packed weights, bounded calls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import ops, sampling
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling.engines import base
from pixelsr.sampling.engines.cpu import engine as cpu_engine
from pixelsr.sampling.engines.cpu import program as cpu_program
from pixelsr.sampling.incremental import maps_cpu
from pixelsr.sampling.methods import start_engine
from tests.support.helpers import randomize
from tests.support.networks import NETWORKS, RECURRENT, Network, inputs, network
from tests.support.sampling import (
    MASKS,
    Draw,
    ancestral,
    cached_logits,
    forward,
    random_images,
    request_of,
    sample,
)

pytestmark = pytest.mark.skipif(ops.WHY_NOT_COMPILED is not None, reason=str(ops.WHY_NOT_COMPILED))

FLOAT = torch.float32
CONFORMANCE = Path(__file__).with_name("test_conformance.py")


def drawn(draw: Draw, model: nn.Module | None = None) -> Tensor:
    return pixelsr.sample(model or network(draw.name), engine="cpu", **draw.options())


@pytest.mark.parametrize("name", [*NETWORKS, *RECURRENT])
def test_float32_logits_equal_the_forward_pass(name):
    model = network(name, FLOAT)
    images = random_images(model, 9)
    ours = cached_logits("cpu", model, images)
    torch.testing.assert_close(ours, forward(model, images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [3, 16])
def test_float32_differs_in_few_values_from_float64(n, capsys):
    different = values = 0
    for name in NETWORKS:
        draw = Draw(name, n=n)
        ours = drawn(draw, network(name, FLOAT))
        different += int((ours != drawn(draw)).sum())
        values += ours.numel()
    with capsys.disabled():
        print(f"\nfloat32, C++ against float64: {different} of {values} values differ")
    assert different <= values * 1e-3


# Threads.


@pytest.mark.parametrize("name", [*NETWORKS, *RECURRENT])
def test_two_threads_share_one_image_or_three(name, threads):
    threads(2)
    for draw in (Draw(name, (2, 4), n=1), Draw(name, (2, 4), n=3)):
        assert torch.equal(drawn(draw), ancestral(draw))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated", "HintAbove"])
def test_two_threads_draw_the_same_where_values_are_known(name, mask, threads):
    threads(2)
    draw = Draw(name, (4, 4), mask=mask)
    assert torch.equal(drawn(draw), ancestral(draw))


@pytest.mark.parametrize(
    "name", ["GatedPixelCNN", "PixelCNN", "Dilated", "OtherGate", "RowLSTM", "DiagonalBiLSTM"]
)
def test_logits_are_the_same_with_any_number_of_threads(name, threads):
    """Check priors only, because PyTorch's sums in conditioning features depend on the threads."""
    model = network(name, FLOAT)
    images = random_images(model, 7)
    threads(1)
    expected = cached_logits("cpu", model, images)
    for count in (2, 3, 5):
        threads(count)
        for n in (1, 2, 7):
            assert torch.equal(cached_logits("cpu", model, images[:n]), expected[:n])


class Wide(Network):
    """A network with a layer that is worth sharing, followed by one that is not."""

    colors, levels = 1, 16

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(1, 512, 3, mask_type="A", colors=1)
        self.out = MaskedConv2d(512, 16, 1, mask_type="B", colors=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.first(self.images(images))))


@pytest.mark.parametrize(
    "make",
    [
        lambda: randomize(Wide()).double().eval(),
        lambda: network("GatedPixelCNN"),
        lambda: network("PixelCNN"),
    ],
    ids=["Wide", "GatedPixelCNN", "PixelCNN"],
)
def test_no_step_is_missed_by_any_number_of_threads(make, threads):
    """Check cases with fewer positions than threads, where some threads skip a step."""
    model = make()
    for n in (1, 2):
        expected = sample(model, n=n, image_size=(3, 2), engine="reference")
        for count in range(1, 25):
            threads(count)
            ours = sample(model, n=n, image_size=(3, 2), engine="cpu")
            assert torch.equal(ours, expected), f"{count} threads"


def test_threads_have_a_processor_each(monkeypatch):
    monkeypatch.setattr(cpu_engine, "usable_processors", lambda: 1)
    calls = _calls(monkeypatch, network("GatedPixelCNN"))
    assert {call["threads"] for call in calls} == {1}


def test_more_threads_than_samples_share_the_steps(threads):
    """Check a network wide enough to split the steps of one sample over threads."""
    torch.manual_seed(0)
    model = randomize(pixelsr.GatedPixelCNN(channels=48, layers=2, head_channels=200)).eval()
    images = {}
    for count in (1, 2, 3):
        threads(count)
        images[count] = pixelsr.sample(model, image_size=(4, 5), engine="cpu")
    assert torch.equal(images[1], images[2])
    assert torch.equal(images[1], images[3])


# Pointwise functions.


class Saturated(Network):
    """A network whose function is evaluated far outside the range where it changes."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 24, 1, mask_type="A")
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.function(self.first(self.images(images))))


@pytest.mark.parametrize(
    "function",
    [torch.tanh, torch.sigmoid, nn.functional.elu, nn.functional.silu, torch.exp, torch.relu],
)
def test_pointwise_functions_of_large_numbers(function):
    for scale in (3.0, 90.0, 1000.0):
        model, plain = (randomize(Saturated(f)).eval() for f in (function, nn.Identity()))
        with torch.no_grad():
            model.first.weight.mul_(scale)
            plain.load_state_dict(model.state_dict())
        images = random_images(model, 2, (3, 3))
        ours, features = (cached_logits("cpu", m, images) for m in (model, plain))
        torch.testing.assert_close(ours, function(features), rtol=1e-6, atol=1e-6)


def test_samples_of_one_input_share_the_rows_that_are_known(monkeypatch):
    model = network("PixelRecursiveSR-gated")
    sampling.plan(model, (6, 4), (3, 2))  # plan first, because the plan check draws too
    rows = []
    run = cpu_engine.CpuEngine._run
    monkeypatch.setattr(
        cpu_engine.CpuEngine,
        "_run",
        lambda self, *a, **k: rows.append(self.request.samples) or run(self, *a, **k),
    )
    draw = Draw("PixelRecursiveSR-gated", n=3, mask="upper half", shares=True)
    assert torch.equal(drawn(draw, model), ancestral(draw))
    assert rows == [2, 6]  # two inputs, then three samples of each


# Weights.


def test_weights_are_packed_once(monkeypatch):
    packed = []
    run = cpu_program._Writer.run

    def spy(writer):
        if writer.dtype == FLOAT:  # the plan check draws in float64
            packed.append(writer)
        return run(writer)

    monkeypatch.setattr(cpu_program._Writer, "run", spy)
    model = network("GatedPixelCNN", FLOAT)
    sample(model, engine="cpu")
    sample(model, engine="cpu", seed=1)
    assert len(packed) == 1
    sample(model, engine="cpu", weights="bfloat16")
    sample(model, engine="cpu")
    sample(model, engine="cpu", weights="bfloat16")
    assert len(packed) == 2


@pytest.mark.parametrize("weights", ["float16", "bfloat16"])
@pytest.mark.parametrize("n", [1, 3, 16])
def test_16_bit_weights_are_the_rounded_model_to_the_last_bit(weights, n):
    model, rounded = network("GatedPixelCNN", FLOAT), network("GatedPixelCNN", FLOAT)
    rounded.to(getattr(torch, weights)).float()
    images = random_images(model, n)
    expected = sampling.logits(rounded, images, engine="cpu")
    ours = sample(model, n=n, engine="cpu", weights=weights)
    assert torch.equal(ours, sample(rounded, n=n, engine="cpu"))
    own = network("GatedPixelCNN", FLOAT).to(getattr(torch, weights))
    assert torch.equal(sampling.logits(own, images, engine="cpu"), expected)


def test_subnormal_halves_count():
    model = network("PixelCNN", FLOAT).half()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0**-14)
    images = random_images(model)
    expected = sampling.logits(network_like(model), images, engine="cpu")
    assert expected.abs().max() > 0
    assert torch.equal(sampling.logits(model, images, engine="cpu"), expected)


@pytest.mark.parametrize("dtype", [FLOAT, torch.float64])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated", "Dilated"])
def test_a_record_equals_the_steps_bit_for_bit(name, n, dtype, threads):
    model = network(name, dtype)
    low_res = inputs(model, count=n).get("low_res")
    images = random_images(model, n)
    request = request_of(model, n if low_res is None else 1, (6, 4), low_res)
    threads(1)
    stepped = base.Engine.record(start_engine("cpu", request), images)
    assert stepped.dtype == dtype
    for count in (1, 2):
        threads(count)
        run = start_engine("cpu", request)
        assert torch.equal(run.record(images), stepped)
        assert torch.equal(run.images, images)


def test_a_record_takes_one_call_and_no_draw(monkeypatch):
    model = network("GatedPixelCNN")
    run = start_engine("cpu", request_of(model))
    calls = _record_calls(monkeypatch)
    run.record(torch.ones(1, 3, 3, 4, dtype=torch.uint8))
    assert [call["draw"] for call in calls] == [False]


def network_like(model: nn.Module) -> nn.Module:
    """Return a float32 model with the same weights."""
    other = network("PixelCNN", FLOAT)
    other.load_state_dict(model.state_dict())
    return other


# Calls.


def test_many_images_can_be_on_their_way_at_once():
    """Check more unfinished draws than the engine remembers between two calls."""
    model = network("GatedPixelCNN", FLOAT)
    images = torch.randint(8, (12, 3, 2, 2), dtype=torch.uint8)
    expected = sampling.logits(model, images, engine="cpu")
    states = [sampling.start(model, image_size=(2, 2), engine="cpu") for _ in images]
    step = [state.step() for state in states]
    while step[0] is not None:
        row, col, color = states[0].position
        for k, logits in enumerate(step):
            assert torch.equal(logits[0], expected[k, :, color, row, col])
        step = [s.step(images[k : k + 1, color, row, col].long()) for k, s in enumerate(states)]


def _calls(monkeypatch, model: nn.Module, **options) -> list[dict[str, object]]:
    """Return the operator's arguments, by name, for each call while an image is drawn."""
    calls = _record_calls(monkeypatch)
    sample(model, engine="cpu", **options)
    return calls


def _record_calls(monkeypatch) -> list[dict[str, object]]:
    """Return a list that will hold the arguments of the operator's next calls, by name."""
    schema = torch.ops.pixelsr.run_plan_.default._schema.arguments
    found = []

    class Recording:
        forget_session = torch.ops.pixelsr.forget_session

        def run_plan_(self, *arguments: object) -> None:
            found.append({a.name: value for a, value in zip(schema, arguments, strict=True)})
            torch.ops.pixelsr.run_plan_(*arguments)

    monkeypatch.setattr(cpu_engine, "operators", Recording())
    return found


def test_a_call_is_bounded_so_that_it_can_be_interrupted(monkeypatch):
    model = network("GatedPixelCNN")
    macs = sampling.plan(model, (6, 4)).macs
    assert len(_calls(monkeypatch, model)) == 1
    monkeypatch.setattr(cpu_engine, "_MACS_AT_ONCE", macs)  # three rows of two images at once
    assert [call["rows"] for call in _calls(monkeypatch, model, n=2)] == [3, 3]
    assert [call["rows"] for call in _calls(monkeypatch, model, n=9)] == [1] * 6


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated"])
def test_images_do_not_depend_on_how_often_they_are_interrupted(name, mask, monkeypatch):
    monkeypatch.setattr(cpu_engine, "_MACS_AT_ONCE", 1)
    draw = Draw(name, mask=mask)
    assert torch.equal(drawn(draw), ancestral(draw))


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated", "DiagonalBiLSTM"])
def test_logits_do_not_depend_on_how_often_they_are_interrupted(name, monkeypatch):
    model, images = network(name), random_images(network(name))
    expected = cached_logits("cpu", model, images)
    monkeypatch.setattr(cpu_engine, "_MACS_AT_ONCE", 1)
    assert torch.equal(cached_logits("cpu", model, images), expected)


def test_auto_takes_the_compiled_engine():
    model = network("PixelCNN")
    assert isinstance(start_engine("auto", request_of(model)), cpu_engine.CpuEngine)


def test_the_operators_are_well_registered(monkeypatch):
    """Check the operators' registration with recorded arguments of real calls."""
    calls: dict[str, tuple[object, ...]] = {}

    class Recording:
        def __getattr__(self, name: str):
            def call(*arguments: object) -> None:
                copies = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
                calls.setdefault(name, tuple(copies))
                getattr(torch.ops.pixelsr, name)(*arguments)

            return call

    model = network("GatedPixelCNN", FLOAT)
    with monkeypatch.context() as patch:
        patch.setattr(cpu_engine, "operators", Recording())
        patch.setattr(maps_cpu, "operators", Recording())
        images = sample(model, engine="cpu")
        sampling.incremental_logits(model, images, engine="cpu")
    assert set(calls) == {"run_plan_", "run_cells_", "forget_session"}
    for name, arguments in calls.items():
        torch.library.opcheck(getattr(torch.ops.pixelsr, name), arguments)


# Unsupported plans.


def test_a_model_on_another_device_is_refused():
    with pytest.raises(ValueError, match="engine 'cpu' cannot run: the model is on meta"):
        sampling.engines.choose_engine("cpu", torch.device("meta"))


def test_a_model_without_values_is_refused():
    with pytest.raises(ValueError, match=r"first.* is on the meta device, which keeps no values"):
        sample(network("PixelCNN").to("meta"), engine="cpu")


def test_no_threads_are_refused():
    engine = cpu_engine.CpuEngine(
        sampling.plan(network("PixelCNN"), (3, 4)), request_of(network("PixelCNN"))
    )
    with pytest.raises(RuntimeError, match="threads must be a positive int, got 0"):
        engine._run(1, threads=0)


# Instruction sets.


def _sets_below_the_best() -> list[str]:
    every = ["avx512", "avx2", "plain"]
    if ops.WHY_NOT_COMPILED:
        return []
    return every[every.index(torch.ops.pixelsr.instruction_set()) + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("instructions", _sets_below_the_best())
def test_other_instruction_sets_pass_these_tests_too(instructions):
    files = [CONFORMANCE, __file__]
    chosen = "not instruction and (cpu- or test_engine_cpu)"
    command = [sys.executable, "-m", "pytest", "-q", "-x", *map(str, files), "-k", chosen]
    environment = {**os.environ, "PIXELSR_INSTRUCTION_SET": instructions}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:]


def test_the_instruction_set_can_be_chosen():
    name = 'import torch, pixelsr.ops; print(torch.ops.pixelsr.instruction_set(), end="")'
    environment = {**os.environ, "PIXELSR_INSTRUCTION_SET": "plain"}
    run = subprocess.run([sys.executable, "-c", name], env=environment, capture_output=True)
    assert run.stdout == b"plain"


def test_an_unknown_instruction_set_is_refused_by_name():
    code = "import torch, pixelsr.ops; torch.ops.pixelsr.instruction_set()"
    environment = {**os.environ, "PIXELSR_INSTRUCTION_SET": "avx9"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert b"PIXELSR_INSTRUCTION_SET is 'avx9', expected one of " in run.stderr
    assert b"plain, which this processor has" in run.stderr
