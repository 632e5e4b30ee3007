"""Tests of the GPU benchmarks on a CPU, with small models and the emulated CUDA engine."""

import contextlib
import dataclasses
import gc
import itertools
import json
import weakref

import pytest
import torch

import pixelsr
from benchmarks.tools import report as readme
from benchmarks.tools.bound import _sizes, bound, reads_of
from benchmarks.tools.breakdown import KERNEL, TICKING, Breakdown
from benchmarks.tools.gpu_steps import loops as suite
from benchmarks.tools.gpu_table import gpu_table
from pixelsr.bench import (
    Batch,
    EngineChoice,
    Report,
    engine_choices,
    loops,
    make_batch,
    passes,
    plot,
    timing,
)
from pixelsr.bench.choices import request_of
from pixelsr.bench.report import CACHED, CACHED_LOOP, CROPPED_LOOP, NAIVE_LOOP
from pixelsr.sampling.engines.cuda import engine as cuda_engine
from pixelsr.sampling.engines.cuda.engine import EVENTS, CudaEngine
from pixelsr.sampling.methods import plan_of
from pixelsr.sampling.plan import Product
from tests.support.bench_cases import network, prior
from tests.support.emulator.build import HERE, build

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Run the passes and loops in their GPU form, without graphs."""
    monkeypatch.setattr(timing, "uses_graphs", lambda device: True)


@pytest.fixture
def _emulated(monkeypatch):
    torch.ops.load_library(build([HERE / "run_tiles.cpp"], "run_tiles"))
    monkeypatch.setattr(cuda_engine, "EMULATES", True)


# Passes.


@pytest.mark.parametrize("cropped", [False, True], ids=["dense", "cropped"])
@pytest.mark.parametrize("make", [network, prior])
def test_masks_in_the_weights_make_the_same_network(make, cropped):
    batch = make_batch(make(), 2, (6, 4))
    expected = batch.model.double()(*batch.inputs)
    ours = passes.folded(batch.model, cropped, torch.float64)
    torch.testing.assert_close(ours(*batch.inputs), expected)
    assert not any(isinstance(m, pixelsr.nn.MaskedConv2d) for m in ours.modules())
    assert passes.folded(batch.model, cropped).dtype == torch.bfloat16


def test_dilated_kernels_are_folded_too():
    layer = pixelsr.nn.MaskedConv2d(6, 6, 5, mask_type="B", dilation=2).double()
    x = torch.randn(1, 6, 9, 7, dtype=torch.float64)
    for cropped in (False, True):
        torch.testing.assert_close(passes._Folded(layer, cropped)(x), layer(x))


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_large_batch_goes_through_in_chunks(monkeypatch):
    monkeypatch.setattr(passes, "CHUNK", 2)
    batch, replays = make_batch(network(), 5, (6, 4)), []

    def graphed(device, work):
        return lambda: replays.append(1) or work()

    monkeypatch.setattr(timing, "graphed", graphed)
    first = passes.dense_pass(batch)()
    assert len(replays) == 3
    assert len(first) == 2
    assert first.dtype == torch.bfloat16
    expected = batch.model(*(images[:2] for images in batch.inputs))
    torch.testing.assert_close(first.float(), expected, atol=0.1, rtol=0.1)
    rows = passes.fast_pass(batch, cropped=True, rows=3)()
    assert rows.shape[3] == 3
    assert passes.cropped_pass(batch) is passes.cropped_pass(batch), "captured once"


@pytest.mark.parametrize(
    ("count", "most", "sizes"), [(5, 2, (2, 3)), (4, 9, (4, 1)), (8, 2, (2, 4))]
)
def test_chunks_make_up_the_batch(count, most, sizes):
    chunk, chunks = make_batch(network(), count, (4, 4)).chunks(most)
    assert (len(chunk), chunks) == sizes
    assert len(chunk.low_res) == len(chunk)


def test_a_folded_copy_that_computes_something_else_is_not_measured(monkeypatch):
    folded = passes.folded

    def wrong(model, *arguments):
        made = folded(model, *arguments)
        with torch.no_grad():
            next(made.parameters()).mul_(1.5)
        return made

    monkeypatch.setattr(passes, "folded", wrong)
    with pytest.raises(ValueError, match="not measured: two forward passes"):
        passes.fast_pass(make_batch(network(), 1, (4, 4)), cropped=True)


def test_without_a_gpu_work_is_called_as_it_is():
    def work() -> int:
        return 3

    assert timing.graphed(CPU, work) is work
    with pytest.raises(RuntimeError, match="CUDA graphs need a GPU, the model is on cpu"):
        timing.captured(CPU, work)


def test_a_replay_keeps_what_the_graph_reads(monkeypatch):
    """Check that a replay keeps the graph's inputs alive, because a graph only holds addresses.

    Stand-ins replace everything that needs a GPU.
    """

    class Graph:
        replays = 0

        def replay(self) -> None:
            self.replays += 1

    def capture(graph):
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "device", capture)
    x = torch.ones(2)
    kept = weakref.ref(x)
    replay = timing.captured(torch.device("cuda"), lambda x=x: x + 1)
    del x
    gc.collect()
    assert kept() is not None
    made = replay()
    assert made is replay()
    assert made.tolist() == [2, 2]
    assert replay.graph.replays == 2


# Loops.


@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_loops_take_the_quicker_form(monkeypatch):
    batch = make_batch(network(), 2, (6, 4))
    times = {False: 0.5, True: 0.25}

    def fast_pass(batch, *, cropped, rows=None):
        return times[cropped]

    monkeypatch.setattr(loops, "fast_pass", fast_pass)
    monkeypatch.setattr(loops, "seconds", lambda device, work: work)
    values = 6 * 4 * 3
    assert loops.naive_loop_seconds(batch) == 0.25 * values
    assert loops.cropped_loop_seconds(batch) == 0.25 * values
    times[True] = 2.0
    assert loops.naive_loop_seconds(batch) == 0.5 * values


def test_the_cached_loop_draws_the_reference_engines_images():
    batch = make_batch(network(), 2, (6, 4))
    at = loops.Position(batch)
    with torch.no_grad():
        at.draw(6 * 4 * 3 - 1)
    expected = EngineChoice("reference")(batch)
    positions = list(itertools.product(range(6), range(4), range(3)))
    assert at.place == positions[-1]
    images = at.positions.gi_frame.f_locals["self"].images
    for row, col, color in positions[:-1]:
        assert torch.equal(images[:, color, row, col], expected[:, color, row, col])


def test_a_pixel_and_the_turn_of_a_row_are_captured(monkeypatch):
    batch, spans = make_batch(network(), 1, (6, 8)), []

    def captured(device, work):
        at = work.__closure__[0].cell_contents
        begin = at.place
        work()
        spans.append((begin, at.place))
        return lambda: None

    monkeypatch.setattr(loops, "captured", captured)
    with torch.no_grad():
        loop = loops.CachedLoop(batch)
    assert spans == [((1, 1, 0), (1, 2, 0)), ((1, 7, 0), (2, 1, 0))]
    assert loop.uncaptured_reason is None
    times = {loop.pixel: 0.5, loop.turn: 4.0}
    monkeypatch.setattr(loops, "seconds", lambda device, work: times[work])
    assert loop.seconds(batch) == 6 * (6 * 0.5 + 4)


def test_what_cannot_be_captured_is_timed_plainly_and_says_why(monkeypatch):
    batch, drawn = make_batch(network(), 1, (6, 4)), []
    monkeypatch.setattr(loops, "seconds", lambda device, work, count: drawn.append(count) or 2)
    assert loops.cached_loop_seconds(batch) == 6 * 2
    assert drawn == [4 * 3]
    assert "need a GPU" in loops.cached_loop(batch).uncaptured_reason
    before = torch.get_float32_matmul_precision()
    assert before != "high"
    small = make_batch(network(), 1, (2, 2))
    assert loops.cached_loop_seconds(small) == 2
    assert drawn[1] == 2 * 2 * 3 - 1


# Samplers.


def test_weights_that_an_engine_does_not_take_are_left_out(monkeypatch):
    monkeypatch.setattr(CudaEngine, "device_unsupported_reason", lambda device: None)
    batch = make_batch(network(), 1, (4, 4))
    found = engine_choices(CPU, ["cuda"], batch)
    assert [one.weights for one in found] == ["float16", "bfloat16"]
    assert engine_choices(CPU, ["cuda", "reference"], batch)[-1] == EngineChoice("reference")
    half = make_batch(network().bfloat16(), 1, (4, 4))
    assert EngineChoice("cuda") in engine_choices(CPU, ["cuda"], half)
    double = make_batch(network().double(), 1, (4, 4))
    with pytest.raises(ValueError, match="engine 'cuda' cannot run: it multiplies float16"):
        engine_choices(CPU, ["cuda"], double)
    assert "cuda" not in [one.engine for one in engine_choices(CPU, batch=double)]


@pytest.mark.usefixtures("_emulated")
def test_only_16_bit_weights_and_gpu_engines_are_measured():
    every = suite.half_precision(make_batch(network(), 1, (4, 4)))
    assert {one.engine for one in every} - {"triton"} == {"cuda"}
    assert {one.weights for one in every} == {"float16", "bfloat16"}


def test_an_engine_that_draws_something_else_is_named_and_left_out(monkeypatch):
    def call(self, batch: Batch):
        if self.engine == "broken":
            raise RuntimeError("misaligned address")
        return torch.zeros_like(batch.images) if self.weights == "float16" else real(self, batch)

    real = EngineChoice.__call__
    monkeypatch.setattr(EngineChoice, "__call__", call)
    good = EngineChoice("reference", "bfloat16")
    every = [good, EngineChoice("reference", "float16"), EngineChoice("broken", "bfloat16")]
    found, refused = suite.sound(every, make_batch(network(), 2, (4, 4)))
    assert found == [good]
    assert "differ from the network's" in refused["reference, float16, 2 at once"]
    assert refused["broken, bfloat16, 2 at once"] == "misaligned address"


# The upper bound and the breakdown.


def engine_of(model, samples: int, size: tuple[int, int]) -> CudaEngine:
    batch = make_batch(model, samples, size)
    request = request_of(batch, "bfloat16")
    with torch.no_grad():
        return CudaEngine(plan_of(request), request)


@pytest.mark.parametrize(
    "samples", [1, 2048], ids=["a tile shared by blocks", "tiles of their own"]
)
def test_the_bytes_of_a_tile_are_the_weights_of_all_products_and_little_else(samples):
    model = pixelsr.GatedPixelCNN(channels=64, layers=3)
    engine = engine_of(model, samples, (8, 8))
    assert (engine.cut.cluster_size > 1) == (samples == 1)
    steps = {"row": 0, "pixel": 0}
    for placed in engine.plan.placed:
        if isinstance(placed.step, Product):
            steps["row" if placed.when == "row" else "pixel"] += 2 * placed.step.macs
    reads = reads_of(engine.cuda_program)
    assert 1 <= reads.of_pixels / (64 * steps["pixel"]) < 1.6
    passes_of_a_row = engine.cut.cluster_size  # each block has its own columns
    assert 1 <= reads.of_rows / (8 * steps["row"] * passes_of_a_row) < 1.6


def test_every_byte_of_the_tape_belongs_to_a_run():
    cuda_program = engine_of(prior(), 3, (4, 4)).cuda_program
    offsets = [0, 8, len(cuda_program.packets) // 16 - 1]
    assert sum(_sizes(cuda_program, offsets).values()) == len(cuda_program.packets)


def test_the_bound_is_the_lower_one():
    engine = engine_of(network(), 2048, (4, 4))
    found = bound(engine)
    assert found["images_per_second"] == min(found["by_arithmetic"], found["by_l2"])
    assert found["by_arithmetic"] == 400e12 / 2 / engine.plan.macs
    per_tile = sum(found["bytes_of_a_tile"].values())
    assert found["by_l2"] == pytest.approx(found["samples_of_a_tile"] * 6e12 / per_tile)


def test_the_time_of_a_step_is_its_share_of_the_clocks():
    clocks = dict.fromkeys(EVENTS, 0.0) | {"colors": 30.0, "draw": 10.0, "row stage": 60.0}
    made = Breakdown("float16", 4, (5, 2, 3), {}, {KERNEL: 1.0, TICKING: 1.2}, clocks).as_json()
    assert made["event_seconds"]["row stage"] == pytest.approx(0.72)
    assert made["color_step_seconds"] == pytest.approx(0.48 / 30)
    assert made["row_stage_seconds"] == pytest.approx(0.72 / 5)


# The whole suite.


@pytest.fixture(scope="module")
def measured():
    """Return the suite's results for a small model, as read from a file."""
    torch.ops.load_library(build([HERE / "run_tiles.cpp"], "run_tiles"))
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_engine, "EMULATES", True)
        patch.setattr(timing, "uses_graphs", lambda device: True)
        every = [EngineChoice("cuda", weights) for weights in suite.WEIGHTS]
        patch.setattr(suite, "half_precision", lambda batch: every)  # Triton's interpreter is slow
        model = network()
        parts = [suite.measure_gpu(model, (4, 4), (n,), 2, lines.append) for n in (1, 3)]
    assert lines == ["batch 1", "batch 3"]
    return json.dumps(parts, allow_nan=False)


@pytest.fixture
def found(measured):
    return suite.join(json.loads(measured))


def test_the_suite_measures_engines_and_loops_and_the_readme_shows_them(measured, found, tmp_path):
    report = Report.from_json(found["report"])
    methods = {figure.method for figure in report.of_batch(3)}
    assert {CACHED, CACHED_LOOP, CROPPED_LOOP, NAIVE_LOOP} < methods
    assert found["gpu"]["refused"] == {}
    assert [one["batch"] for one in found["gpu"]["breakdown"]] == [1, 3]
    for one in found["gpu"]["breakdown"]:
        assert sum(one["event_seconds"].values()) == pytest.approx(one["seconds"][TICKING])
        assert one["color_step_seconds"] > 0
    assert "need a GPU" in found["gpu"]["cached_loop"]["1"]

    file = tmp_path / "nvidia.jsonl"
    of_old = {"what": "sampling", "commit": "old", "report": {}}
    lines = [of_old, {"what": "copy", "commit": "new"}]
    lines += [{"what": "sampling", "commit": "new", **part} for part in json.loads(measured)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = readme.results([file])
    rows = [line for line in text.splitlines() if "| `cuda`, bfloat16 |" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| 1", "| 3"]
    assert "could not be captured: CUDA graphs need a GPU" in text
    assert "(docs/images/speed-nvidia.png)" in text
    assert plot.draw_plot(readme.read_report(file))


def test_the_table_states_the_share_of_the_bound_and_what_is_published(found):
    report = Report.from_json(found["report"])
    results = [dataclasses.replace(one, batch={1: 1, 3: 16}[one.batch]) for one in report.results]
    report = dataclasses.replace(report, results=tuple(results))
    fastest = max(one.images_per_second for one in report.of_batch(16) if one.engine == "cuda")
    found["gpu"]["bound"]["images_per_second"] = 4 * fastest
    text = gpu_table(report, found["gpu"])
    assert "comes to 25% of the lower one" in text
    row = next(line for line in text.splitlines() if line.startswith("| 16 | `cuda`"))
    assert row.split(" | ")[5] == "18"


def test_an_engine_that_is_not_there_leaves_no_hole_in_the_table(found):
    report = Report.from_json(found["report"])
    gpu = {**found["gpu"], "breakdown": [], "one_input": [], "bound": None}
    text = gpu_table(report, gpu)
    assert "cannot beat" not in text
    assert "Where the time" not in text
