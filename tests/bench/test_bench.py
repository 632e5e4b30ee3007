"""Tests of `pixelsr.bench` and `pixelsr bench`: equal work on both sides, and correct results."""

import dataclasses
import itertools
import json
import re
import statistics
from io import BytesIO
from pathlib import Path

import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import Tensor

import pixelsr
from benchmarks.tools.registry import SUITES
from pixelsr.bench import (
    Batch,
    EngineChoice,
    Report,
    choices,
    engine_choices,
    inputs,
    loops,
    make_batch,
    measure,
    measure_batch,
    measure_growth,
    measuring,
    passes,
    plot,
    times_faster,
)
from pixelsr.bench.growth import cache_bytes
from pixelsr.bench.report import CACHED, CROPPED, CROPPED_LOOP, DENSE, LOOPS, NAIVE_LOOP
from pixelsr.cli import bench
from pixelsr.sampling import engines
from pixelsr.sampling.noise import draw, gumbel_noise
from pixelsr.sampling.plan import Buffer
from tests.support.bench_cases import figure, growth, network, prior, report
from tests.support.command_cases import invoke
from tests.support.processes import run as run_process
from tests.support.processes import script

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
REFERENCE = EngineChoice("reference")
TEMPERATURE = 0.1  # the temperature of a check: low, so that the past matters


# The sides of the comparison.


@torch.inference_mode()
def draw_by_loop(batch: Batch, *, cropped: bool) -> Tensor:
    """Draw whole images with one of the two simple loops, each value by the pass that is timed."""
    images = torch.zeros_like(batch.images)
    batch = dataclasses.replace(batch, images=images)
    _, colors, height, width = images.shape
    conditioning = batch.model.conditioning(batch.low_res)
    positions = itertools.product(range(height), range(width), range(colors))
    for position, (row, col, color) in enumerate(positions):
        if cropped:
            logits = loops.cropped_pass(batch, row + 1) + conditioning[:, :, :, : row + 1]
        else:
            logits = loops.naive_pass(batch)
        noise = gumbel_noise(0, 0, len(batch), position, 1, batch.model.levels, CPU)
        images[:, color, row, col] = draw(logits[:, :, color, row, col], noise[:, 0], TEMPERATURE)
    return images


@pytest.mark.parametrize("cropped", [False, True], ids=["naive", "row-cropped"])
def test_a_loop_of_the_passes_that_are_timed_draws_the_cached_images(cropped):
    batch = make_batch(network().double(), 2, (6, 4))
    options = {"low_res": batch.low_res, "temperature": TEMPERATURE, "engine": "reference"}
    cached = pixelsr.sample(batch.model, 1, **options)
    assert torch.equal(draw_by_loop(batch, cropped=cropped), cached)


def test_the_time_of_the_row_cropped_loop_is_interpolated_between_rows():
    assert loops.rows_timed(32) == [1, 8, 16, 24, 32]
    assert loops.rows_timed(2) == [1, 2]
    by_rows = {rows: 10.0 + rows for rows in loops.rows_timed(32)}
    assert loops.interpolated(by_rows, 32) == pytest.approx(sum(10 + rows for rows in range(1, 33)))


def test_the_loops_times_are_of_all_their_passes(monkeypatch):
    monkeypatch.setattr(loops, "seconds", lambda device, work, *arguments: 0.5)
    batch = make_batch(network(), 2, (6, 4))
    assert loops.naive_loop_seconds(batch) == 0.5 * 6 * 4 * 3
    assert loops.cropped_loop_seconds(batch) == 0.5 * 6 * 4 * 3


@pytest.mark.parametrize("make", [network, prior])
def test_the_forward_passes_are_the_network_on_the_backends_that_they_name(make, monkeypatch):
    batch = make_batch(make().double(), 2, (6, 4))
    used = []
    masked_conv2d = pixelsr.functional.masked_conv2d

    def spy(x, *arguments, backend="auto", **options):
        used.append((backend, x.is_contiguous(memory_format=torch.channels_last)))
        return masked_conv2d(x, *arguments, backend=backend, **options)

    expected = batch.model(*batch.inputs)
    monkeypatch.setattr(pixelsr.functional, "masked_conv2d", spy)
    for make_pass, backend in ((passes.dense_pass, "reference"), (passes.cropped_pass, "cropped")):
        used.clear()
        torch.testing.assert_close(make_pass(batch)(), expected)
        assert {name for name, _ in used} == {backend}
        assert all(last for _, last in used) == (backend == "cropped")
    used.clear()
    batch.model(*batch.inputs)
    assert {name for name, _ in used} == {"auto"}, "the model itself was changed"


def test_passes_that_differ_are_not_measured():
    logits = torch.ones(1, 2, 1, 1, 1)
    passes.check_the_same_logits(lambda: logits, lambda: logits * 1.0005)
    for wrong in (1.01, torch.nan):
        with pytest.raises(ValueError, match=r"not measured: .* differ by .* at most 0\.001"):
            passes.check_the_same_logits(lambda wrong=wrong: logits * wrong, lambda: logits)


@pytest.mark.parametrize("make", [network, prior])
@pytest.mark.parametrize("weights", ["model", "bfloat16"])
def test_replay_knows_the_networks_own_images(make, weights):
    batch = make_batch(make().double(), 6, (4, 6))
    drawn = EngineChoice("reference", weights)(batch)
    assert drawn.shape == batch.images.shape
    assert inputs.flips(batch, drawn, weights) == 0
    assert inputs.flips(batch, drawn.flip(3), weights) > 0.3
    assert inputs.flips(batch, drawn[[1, 0, 2, 3, 4, 5]], weights) > 0.1, "each has its own noise"


def test_a_sampler_that_draws_something_else_is_not_measured(monkeypatch):
    batch = make_batch(network(), 2, (4, 4))
    monkeypatch.setattr(
        EngineChoice, "__call__", lambda self, batch: torch.zeros_like(batch.images)
    )
    message = r"\d\d% of the values that engine reference draws differ from the network's"
    with pytest.raises(ValueError, match=message):
        measure_batch(batch, [REFERENCE], 1)
    with pytest.raises(ValueError, match=message):
        measure_growth(batch.model, REFERENCE, (4, 4), 1)


def test_every_engine_that_can_run_is_measured_with_every_kind_of_weights(monkeypatch):
    reasons = {"cuda": "no GPU", "cpu": None, "reference": None}
    monkeypatch.setattr(choices, "ENGINES", reasons)
    monkeypatch.setattr(choices, "unsupported_reason", lambda name, device: reasons[name])
    monkeypatch.setattr(choices, "choose_engine", lambda name, device: None)
    cpu = [EngineChoice("cpu", weights) for weights in ("model", "float16", "bfloat16")]
    assert engine_choices(CPU) == [*cpu, REFERENCE]
    assert engine_choices(CPU, ["reference"]) == [REFERENCE]


def test_an_engine_that_cannot_run_says_why():
    for name in engines.ENGINES:
        if reason := engines.unsupported_reason(name, CPU):
            with pytest.raises(ValueError, match=re.escape(reason)):
                engine_choices(CPU, [name])


# Turns, medians and ratios.


def test_a_dense_forward_pass_follows_each_turn(monkeypatch):
    """Check the order of the timed calls with a clock that returns 1, 2, 3, ... seconds."""
    calls = []

    def note(device, work, *arguments) -> float:
        calls.append(work)
        return float(len(calls))

    monkeypatch.setattr(measuring, "seconds", note)
    monkeypatch.setattr(measuring, "cropped_loop_seconds", lambda batch: note(CPU, CROPPED_LOOP))
    monkeypatch.setattr(measuring, "naive_loop_seconds", lambda batch: note(CPU, NAIVE_LOOP))
    monkeypatch.setattr(measuring, "check_replay", lambda *arguments: None)
    monkeypatch.setattr(EngineChoice, "__call__", lambda self, batch: batch.images)
    fast = EngineChoice("cpu")
    *sides, dense = measure_batch(make_batch(network(), 2, (4, 4)), [fast, REFERENCE], 5)
    methods = [CACHED, CACHED, CROPPED_LOOP, NAIVE_LOOP, CROPPED]
    assert [side.method for side in sides] == methods
    assert dense.method == DENSE
    turns, forwards = calls[::2], calls[1::2]
    cropped = turns[-1]
    slow_too, fast_alone = [fast, REFERENCE, CROPPED_LOOP, NAIVE_LOOP, cropped], [fast, cropped]
    assert turns == [*slow_too * 3, *fast_alone * 2]
    assert set(forwards) - {*turns} == {forwards[0]}
    for side in sides:
        pairs = zip(side.seconds, side.forward_seconds, strict=True)
        assert all(forward == turn + 1 for turn, forward in pairs)
    assert [len(side.seconds) for side in sides] == [5, 3, 3, 3, 5]
    assert dense.seconds == dense.forward_seconds
    assert len(dense.seconds) == len(forwards)


def test_a_figure_is_the_median_of_ratios_not_the_ratio_of_medians():
    assert figure().forward_passes == 3
    assert figure().images_per_second == 4 / 8
    rival = dataclasses.replace(figure(NAIVE_LOOP), seconds=(60.0, 100.0))
    assert times_faster(figure(), rival) == statistics.median([10, 5])


def test_growth_is_the_time_of_a_pixel():
    assert growth().time_per_pixel == 22 / 16


def test_both_images_of_growth_are_drawn_and_their_caches_counted():
    found = measure_growth(network(), REFERENCE, (2, 4), 2)
    assert found.image_sizes == ((2, 4), (8, 16))
    assert [len(times) for times in found.seconds] == [2, 2]
    assert found.seconds[1][0] > found.seconds[0][0] > 0
    small, large = found.cache_bytes
    assert small < large < 4 * small, "of a wider image rows are longer, not more"


def test_the_cache_is_the_rows_that_the_plans_buffers_keep():
    plan = pixelsr.sampling.plan(network(), (4, 6), (2, 3))
    plan = dataclasses.replace(
        plan,
        buffers={
            "a": Buffer("a", order=(0, 2, 1), rows=3, left=1, right=2),
            "b": Buffer("b", order=(0,)),
        },
    )
    assert cache_bytes(plan) == 4 * (3 * (1 + 6 + 2) * 3 + 1 * 6 * 1)


def test_a_report_outlives_json():
    made = report(growth=(growth(),))
    assert Report.from_json(json.loads(json.dumps(made.as_json()))) == made


def test_measure_reports_every_batch_and_says_what_it_does():
    lines = []
    options = {"image_size": (4, 4), "batches": [2, 1], "rounds": 1, "report": lines.append}
    found = measure(network(), [REFERENCE], **options)
    assert found.batches == [2, 1]
    assert lines == ["batch 2", "batch 1"]
    assert found.growth == ()
    assert found.model["class"] == "PixelRecursiveSR"
    assert found.machine["torch"] == torch.__version__
    assert all(figure.forward_passes > 0 for figure in found.results)
    by_name = {figure.name: figure for figure in found.of_batch(1)}
    assert by_name["naive loop"].forward_passes > 4 * 4  # 48 passes of similar cost
    assert times_faster(by_name["cached, reference"], by_name["naive loop"]) > 0


def test_sizes_that_the_model_cannot_draw_are_refused():
    with pytest.raises(
        ValueError, match=r"images are 4x5, expected multiples of .* scale factor 2"
    ):
        make_batch(network(), 1, (4, 5))


# The plot.


def lines_of(made: Report) -> dict[str, tuple[list[float], list[float]]]:
    """Return the points of each line that `draw_plot` draws, by the line's label."""
    from matplotlib.figure import Figure as Canvas

    axes = Canvas().add_subplot()
    for line in plot._lines(made):
        plot._draw(axes, line)
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def test_the_plot_has_a_line_for_each_method_and_engine():
    lines = lines_of(report())
    assert lines["cached, cpu"] == ([1, 4], [1 / 8, 4 / 8])
    assert lines["naive loop (from its steps)"][0] == [1, 4]
    assert list(lines) == [
        *("one forward pass, dense", "cached, cpu"),
        *("row-cropped loop (from its steps)", "naive loop (from its steps)"),
    ]


@pytest.mark.parametrize("batches", [(1,), (4, 1)])
def test_the_plot_is_a_png(batches, recwarn):
    made = report()
    made = report(results=tuple(one for one in made.results if one.batch in batches))
    with Image.open(BytesIO(plot.draw_plot(made))) as image:
        assert image.format == "PNG"
        assert image.width > 1000
        dark = image.convert("L").point(lambda value: 255 * (value < 200))
        assert dark.getbbox()[2] > 0.95 * image.width, "the legend is cut off or missing"
    assert not recwarn.list


# The command.


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model")
    network().save_pretrained(path)
    return path


def run(*arguments: object) -> Result:
    return invoke("bench", *arguments)


def refusal(*arguments: object, status: int = 1) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, SystemExit), result.exception  # else: a traceback
    assert result.exit_code == status
    assert result.stdout == ""
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    return line


def test_the_table_the_json_and_the_plot_are_of_one_report(folder, tmp_path):
    out, image = tmp_path / "new" / "speed.json", tmp_path / "speed.png"
    options = ["--engine", "reference", "--batch", "1,2", "--rounds", 1]
    result = run("--model", folder, "--size", "4x6", *options, "--out", out, "--plot", image)
    assert result.exit_code == 0, result.output
    values = json.loads(out.read_text())
    assert values["image_size"] == [4, 6]
    assert values["machine"]["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", values["date"])
    assert [figure["batch"] for figure in values["results"]] == [1] * 5 + [2] * 5
    found = Report.from_json(values)
    for one in found.results:
        star = "* " if one.method in LOOPS else ""
        passes, speed = bench._rounded(one.forward_passes), bench._rounded(one.images_per_second)
        cells = [str(one.batch), one.name, star + passes, star + speed]
        assert re.search(r"\s+".join(map(re.escape, cells)), result.stdout), cells
    assert "GatedPixelCNN" not in result.stdout
    assert "PixelRecursiveSR, images of 6x4" in result.stdout
    assert image.read_bytes() == plot.draw_plot(found)
    assert result.stderr.splitlines() == ["batch 1", "batch 2"]


def test_growth_is_shown(monkeypatch, folder):
    monkeypatch.setattr(bench, "measure", lambda *arguments, **options: report(growth=(growth(),)))
    result = run("--model", folder, "--size", 4)
    assert result.exit_code == 0, result.output
    assert "time a pixel, 16x16 / 4x4" in result.stdout
    assert re.search(r"cached, cpu, float16 +1\.38 +0\.00 MB +0\.00 MB", result.stdout)


def test_by_default_the_papers_model_and_all_engines_are_measured(monkeypatch):
    seen = {}

    def note(model, found, **options):
        seen.update(options, model=model, engine_choices=found)
        return report()

    monkeypatch.setattr(bench, "measure", note)
    monkeypatch.setattr(bench, "PixelRecursiveSR", network)
    before = torch.get_num_threads()
    try:
        assert run("--threads", 1).exit_code == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert seen["engine_choices"] == engine_choices(seen["model"].device)
    assert (seen["batches"], seen["rounds"], seen["image_size"]) == ([1, 4, 16], 7, (16, 16))


@pytest.mark.parametrize("text", ["0", "1,x", "1,,2", "1.5", "4097", "-1", ","])
def test_a_batch_that_is_no_list_of_numbers_is_refused(text):
    line = refusal(f"--batch={text}", status=2)
    assert repr(text) in line
    assert "is not a list of whole numbers from 1 to 4096" in line


def test_engines_that_are_unknown_or_cannot_run_are_refused(monkeypatch, folder):
    line = refusal("--engine", "gpu", status=2)
    assert f"'gpu' is not a list of engines, of {', '.join(engines.ENGINES)}" in line
    triton = engines.ENGINES["triton"]
    monkeypatch.setattr(triton, "device_unsupported_reason", lambda device: "it rains")
    line = refusal("--model", folder, "--size", 4, "--engine", "reference,triton")
    assert line == "Error: engine 'triton' cannot run: it rains"


def test_models_that_draw_nothing_by_themselves_are_refused(tmp_path):
    pixelsr.ConditioningNetwork(channels=4, blocks=1).save_pretrained(tmp_path)
    assert "expected a prior" in refusal("--model", tmp_path)
    assert "no model folder 'nowhere'" in refusal("--model", "nowhere")


def test_a_size_that_the_model_cannot_draw_is_refused(folder):
    assert "multiples of the model's scale factor 2" in refusal("--model", folder, "--size", 5)


def test_results_that_cannot_be_written_are_refused_before_the_work(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(bench, "measure", None)
    (tmp_path / "file").touch()
    given = ["--model", folder, "--size", 4]
    assert "is a folder" in refusal(*given, "--out", tmp_path)
    assert "is a file, expected a folder" in refusal(*given, "--out", tmp_path / "file" / "a.json")
    assert "ends in .png" in refusal(*given, "--plot", tmp_path / "plot.svg")
    both = tmp_path / "a.png"
    assert "expected two files" in refusal(*given, "--out", both, "--plot", both)


def test_a_plot_without_matplotlib_is_refused_before_the_work(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(bench, "measure", None)
    monkeypatch.setattr(plot, "is_installed", lambda: False)
    line = refusal("--model", folder, "--size", 4, "--plot", tmp_path / "a.png")
    assert line == "Error: --plot: matplotlib is not installed; pip install matplotlib"


def test_matplotlib_is_imported_only_for_a_plot(folder):
    done = run_process(script, "import sys, pixelsr.cli.bench; print('matplotlib' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


# The suites in benchmarks/.


def test_every_suite_is_registered_with_tests_that_are_there():
    files = {path.stem for path in (ROOT / "benchmarks" / "suites").glob("bench_*.py")}
    assert set(SUITES) == files
    for suite in SUITES.values():
        assert suite.what
        assert suite.guards
        assert [name for name in suite.guards if not (ROOT / name).is_file()] == []
