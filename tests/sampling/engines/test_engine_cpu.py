"""Tests of the C++ engine against the reference engine and the forward pass."""

import os
import subprocess
import sys
import threading

import pytest
import torch
from torch import Tensor, nn

import pixelsr
from pixelsr import functional, ops, sampling
from pixelsr.nn import MaskedConv2d
from pixelsr.sampling.engines import base, packing
from pixelsr.sampling.engines.cpu import engine as cpu_engine
from pixelsr.sampling.engines.cpu import program as cpu_program
from pixelsr.sampling.incremental import maps_cpu
from pixelsr.sampling.methods import start_engine
from tests.sampling.test_sampling import masks, sample
from tests.support.helpers import randomize
from tests.support.networks import NETWORKS, Network, inputs, network

pytestmark = pytest.mark.skipif(ops.WHY_NOT_COMPILED is not None, reason=str(ops.WHY_NOT_COMPILED))

FLOAT = torch.float32


@pytest.fixture
def threads(monkeypatch):
    """Yield a function that sets the number of threads, regardless of the number of processors."""
    monkeypatch.setattr(cpu_engine, "usable_processors", lambda: 1000)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def both(model: nn.Module, **options) -> tuple[Tensor, Tensor]:
    return sample(model, engine="cpu", **options), sample(model, engine="reference", **options)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_images_in_float64(name, count, threads):
    threads(count)
    model = network(name)
    for n in (1, 3):
        ours, reference = both(model, n=n)
        assert torch.equal(ours, reference)


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelCNN", "PixelRecursiveSR-gated", "Dilated"])
def test_equal_images_of_sixteen_in_float64(name):
    ours, reference = both(network(name), n=16)
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 7), (2, 19)])
@pytest.mark.parametrize("name", ["GatedPixelCNN", "Concatenated", "Dilated"])
def test_equal_images_of_odd_sizes(name, size):
    ours, reference = both(network(name), image_size=size)
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("mask", masks((1, 1, 6, 4)))
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated", "HintAbove"])
def test_equal_images_where_values_are_known(name, mask, threads):
    model = network(name)
    shape = sample(model).shape
    options = {"known_mask": masks(tuple(shape))[mask]}
    options["known"] = torch.randint(model.levels, shape, dtype=torch.uint8)
    for count in (1, 2):
        threads(count)
        ours, reference = both(model, **options)
        assert torch.equal(ours, reference)


def test_float32_differs_in_few_values_from_the_reference(capsys):
    different = values = 0
    for name in NETWORKS:
        model = network(name, FLOAT)
        for n in (1, 3, 16):
            ours, reference = both(model, n=n)
            different += int((ours != reference).sum())
            values += ours.numel()
    with capsys.disabled():
        print(f"\nfloat32, C++ against reference: {different} of {values} values differ")
    assert different <= values * 1e-3


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_equal_the_forward_pass(name, dtype):
    model, what = network(name, dtype), inputs(network(name), count=2)
    images = torch.randint(model.levels, (2, model.colors, 6, 4), dtype=torch.uint8)
    low_res = what.get("low_res")
    ours = sampling.logits(model, images, low_res=low_res, engine="cpu")
    expected = model(images, low_res) if low_res is not None else model(images)
    tolerance = 1e-4 if dtype == FLOAT else 1e-12
    torch.testing.assert_close(ours, expected.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated", "OtherGate"])
def test_an_image_is_the_same_in_any_batch(name, count, threads):
    threads(count)
    model = network(name, FLOAT)
    images = torch.randint(model.levels, (7, model.colors, 6, 4), dtype=torch.uint8)
    low_res = {} if "SR" not in name else {"low_res": inputs(model, count=7)["low_res"]}
    together = sampling.logits(model, images, engine="cpu", **low_res)
    for i in range(7):
        alone = sampling.logits(model, images[i : i + 1], engine="cpu", **_part(low_res, i))
        assert torch.equal(alone[0], together[i])
    drawn = sample(model, n=5, engine="cpu")
    assert torch.equal(sample(model, n=5, engine="cpu", max_batch=2), drawn)


@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelCNN", "Dilated"])
def test_an_image_is_the_same_with_any_number_of_threads(name, threads):
    """Check priors only, because PyTorch's sums in conditioning features depend on the threads."""
    model = network(name, FLOAT)
    images = torch.randint(model.levels, (2, model.colors, 6, 4), dtype=torch.uint8)
    threads(1)
    expected = sampling.logits(model, images, engine="cpu")
    for count in (2, 3):
        threads(count)
        assert torch.equal(sampling.logits(model, images, engine="cpu"), expected)


def _part(low_res: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    return {name: value[i : i + 1] for name, value in low_res.items()}


class Wide(Network):
    """A network with a layer that is worth sharing, followed by one that is not."""

    colors, levels = 1, 16

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(1, 512, 3, mask_type="A", colors=1)
        self.out = MaskedConv2d(512, 16, 1, mask_type="B", colors=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.out(self.first(self.images(images))))


@pytest.mark.parametrize("count", range(1, 25))
def test_no_step_is_missed_by_any_number_of_threads(count, threads):
    """Check cases with fewer positions than threads, where some threads skip a step."""
    threads(count)
    wide = randomize(Wide()).double().eval()
    for model in (wide, network("GatedPixelCNN"), network("PixelCNN")):
        for n in (1, 2):
            ours, reference = both(model, n=n, image_size=(3, 2))
            assert torch.equal(ours, reference)


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


class Pointwise(Network):
    """A network with every pointwise function that a plan knows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MaskedConv2d(3, 40, 3, mask_type="A")
        self.out = MaskedConv2d(40, 24, 1, mask_type="B")
        self.elu = nn.ELU(alpha=0.7)

    def forward(self, images: Tensor) -> Tensor:
        x = 30 * self.first(self.images(images))
        y = torch.exp(-x * x / 900) + self.elu(x) / 10 - nn.functional.silu(x) / 7
        y = y + torch.relu(x) * torch.sigmoid(-x) + torch.tanh(x) * torch.sigmoid(x + 1)
        return self.logits(self.out(y - torch.exp(x / 400) * 0.5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_pointwise_function(dtype):
    model = randomize(Pointwise()).to(dtype).eval()
    images = torch.randint(8, (4, 3, 5, 6), dtype=torch.uint8)
    ours = sampling.logits(model, images, engine="cpu")
    tolerance = 1e-5 if dtype == FLOAT else 1e-12
    torch.testing.assert_close(ours, model(images).detach(), rtol=tolerance, atol=tolerance)


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
@pytest.mark.parametrize("scale", [3.0, 90.0, 1000.0])
def test_pointwise_functions_of_large_numbers(function, scale):
    model, plain = (randomize(Saturated(f)).eval() for f in (function, nn.Identity()))
    with torch.no_grad():
        model.first.weight.mul_(scale)
        plain.load_state_dict(model.state_dict())
    images = torch.randint(8, (2, 3, 3, 3), dtype=torch.uint8)
    ours, features = (sampling.logits(m, images, engine="cpu") for m in (model, plain))
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
    shape = (1, 3, 6, 4)
    known = torch.randint(model.levels, shape, dtype=torch.uint8)
    options = {"known": known, "known_mask": masks(shape)["upper half"], "n": 3}
    ours, reference = both(model, **options)
    assert torch.equal(ours, reference)
    assert rows == [2, 6]  # two inputs, then three samples of each


# Weights.


def test_a_changed_parameter_changes_the_image():
    model = network("GatedPixelCNN", FLOAT)
    before = sample(model, n=4, engine="cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    functional.nll(model(before), before).mean().backward()
    optimizer.step()
    ours, reference = both(model, n=4)
    assert torch.equal(ours, reference)
    assert not torch.equal(ours, before)


def test_a_change_that_no_version_counts_is_seen_too():
    model = network("PixelCNN", FLOAT)
    before = sample(model, n=4, engine="cpu")
    next(model.parameters()).data.mul_(-1)
    ours, reference = both(model, n=4)
    assert torch.equal(ours, reference)
    assert not torch.equal(ours, before)


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
    images = torch.randint(8, (n, 3, 6, 4), dtype=torch.uint8)
    expected = sampling.logits(rounded, images, engine="cpu")
    drawn = sample(model, n=n, engine="cpu", weights=weights)
    assert torch.equal(drawn, sample(rounded, n=n, engine="cpu"))
    own = network("GatedPixelCNN", FLOAT).to(getattr(torch, weights))
    assert torch.equal(sampling.logits(own, images, engine="cpu"), expected)


def test_subnormal_halves_count():
    model = network("PixelCNN", FLOAT).half()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0**-14)
    images = torch.randint(8, (2, 3, 6, 4), dtype=torch.uint8)
    expected = sampling.logits(network_like(model), images, engine="cpu")
    assert expected.abs().max() > 0
    assert torch.equal(sampling.logits(model, images, engine="cpu"), expected)


@pytest.mark.parametrize("dtype", [FLOAT, torch.float64])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated", "Dilated"])
def test_a_record_equals_the_steps_bit_for_bit(name, n, dtype, threads):
    model = network(name, dtype)
    low_res = inputs(model, count=n).get("low_res")
    images = torch.randint(model.levels, (n, model.colors, 6, 4), dtype=torch.uint8)
    samples = n if low_res is None else 1
    request = sampling.request.make_request(model, samples, image_size=(6, 4), low_res=low_res)
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
    run = start_engine("cpu", _request(model))
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


def test_several_python_threads_may_sample_at_once():
    models = [network(name, FLOAT) for name in ("GatedPixelCNN", "PixelCNN", "Dilated")]
    expected = [sample(model, n=3, engine="cpu") for model in models]
    found: dict[int, Tensor] = {}

    def work(k: int) -> None:
        for _ in range(5):
            found[k] = sample(models[k], n=3, engine="cpu")

    workers = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.equal(found[k], expected[k]) for k in range(3))


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


@pytest.mark.parametrize("mask", masks((1, 1, 6, 4)))
@pytest.mark.parametrize("name", ["GatedPixelCNN", "PixelRecursiveSR-gated"])
def test_images_do_not_depend_on_how_often_they_are_interrupted(name, mask, monkeypatch):
    model = network(name)
    shape = sample(model).shape
    options = {"known_mask": masks(tuple(shape))[mask]}
    options["known"] = torch.randint(model.levels, shape, dtype=torch.uint8)
    images = torch.randint(model.levels, (2, model.colors, 6, 4), dtype=torch.uint8)
    low_res = inputs(model, count=2).get("low_res")
    expected = sampling.logits(model, images, low_res=low_res, engine="cpu")
    monkeypatch.setattr(cpu_engine, "_MACS_AT_ONCE", 1)
    ours, reference = both(model, **options)
    assert torch.equal(ours, reference)
    assert torch.equal(sampling.logits(model, images, low_res=low_res, engine="cpu"), expected)


def test_auto_takes_the_compiled_engine():
    model = network("PixelCNN")
    assert isinstance(start_engine("auto", _request(model)), cpu_engine.CpuEngine)


def _request(model: nn.Module):
    return sampling.request.make_request(model, image_size=(3, 4))


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


def test_an_unknown_step_is_refused_by_name_and_auto_passes_it_over(monkeypatch):
    monkeypatch.delitem(packing.OPCODES, "elu")
    model = network("OtherGate")
    with pytest.raises(ValueError, match=r"engine 'cpu' cannot run: .* pointwise function 'elu'"):
        sample(model, engine="cpu")
    assert torch.equal(sample(model), sample(model, engine="reference"))


def test_parameters_of_mixed_dtype_are_refused():
    model = network("PixelCNN", FLOAT)
    list(model.parameters())[-1].data = list(model.parameters())[-1].data.double()
    with pytest.raises(ValueError, match=r"mixed dtype, torch.float32 and torch.float64 \(.*\)"):
        sample(model, engine="cpu")


def test_a_model_on_another_device_is_refused():
    with pytest.raises(ValueError, match="engine 'cpu' cannot run: the model is on meta"):
        sampling.engines.choose_engine("cpu", torch.device("meta"))


def test_a_model_without_values_is_refused():
    with pytest.raises(ValueError, match=r"first.* is on the meta device, which keeps no values"):
        sample(network("PixelCNN").to("meta"), engine="cpu")


def test_no_threads_are_refused():
    engine = cpu_engine.CpuEngine(
        sampling.plan(network("PixelCNN"), (3, 4)), _request(network("PixelCNN"))
    )
    with pytest.raises(RuntimeError, match="threads must be a positive int, got 0"):
        engine._run(1, threads=0)


def test_a_long_formula_is_refused():
    class Long(Network):
        def __init__(self) -> None:
            super().__init__()
            self.first = MaskedConv2d(3, 24, 1, mask_type="A")

        def forward(self, images: Tensor) -> Tensor:
            x = self.first(self.images(images))
            y = x
            for k in range(packing.MAX_STACK):
                y = x * k - y
            return self.logits(y)

    model = randomize(Long()).double().eval()
    with pytest.raises(ValueError, match=r"the pointwise step into .* is too long"):
        sample(model, engine="cpu")
    assert torch.equal(sample(model), sample(model, method="ancestral"))


# Instruction sets.


def _sets_below_the_best() -> list[str]:
    every = ["avx512", "avx2", "plain"]
    if ops.WHY_NOT_COMPILED:
        return []
    return every[every.index(torch.ops.pixelsr.instruction_set()) + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("instructions", _sets_below_the_best())
def test_other_instruction_sets_pass_these_tests_too(instructions):
    names = "float64 or logits or pointwise or 16_bit or subnormal or batch"
    command = [sys.executable, "-m", "pytest", "-q", "-x", __file__, "-k", names]
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
