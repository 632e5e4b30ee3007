"""Tests of `benchmarks.tools.gpu`: every step in its smallest form, and steps that fail or hang."""

import json
import time

import pytest

from benchmarks.tools import gpu
from benchmarks.tools.gpu import DONE, FAILED, LIMIT, STEPS, Step

REPORT = "from benchmarks.tools.gpu_steps import report; report(what='one'); report(what='two'); "


def step(name, script, seconds=60.0):
    return Step(name, seconds, ("-c", script))


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Return a function that runs steps as if on an H200, and returns the exit code and results."""
    monkeypatch.setattr(gpu, "_device", lambda rehearse: "NVIDIA H200")
    monkeypatch.setattr(gpu, "_commit", lambda: "abc")

    def run(steps, *arguments):
        out = tmp_path / "results.jsonl"
        code = gpu.main(["--out", str(out), *arguments], steps)
        return code, [json.loads(line) for line in out.read_text().splitlines()]

    return run


def endings(lines):
    return {line["step"]: line["ended"] for line in lines if "ended" in line}


def test_a_step_that_fails_and_one_that_hangs_are_recorded_and_the_next_one_runs(call):
    steps = [
        step("fails", REPORT + "raise SystemExit('it said why')"),
        step("hangs", REPORT + "import time; print('so far', flush=True); time.sleep(600)", 8),
        step("crashes", "import os; os.abort()"),
        step("after", REPORT),
    ]
    begin = time.monotonic()
    code, lines = call(steps)
    assert time.monotonic() - begin < 120
    assert code == 1
    assert endings(lines) == {"fails": FAILED, "hangs": LIMIT, "crashes": FAILED, "after": DONE}
    for name in ("fails", "hangs", "after"):
        assert [one["what"] for one in lines if one["step"] == name and "what" in one] == [
            "one",
            "two",
        ]
    said = {line["step"]: line.get("said") for line in lines if "ended" in line}
    assert "it said why" in said["fails"]
    assert "so far" in said["hangs"]
    assert all((line["commit"], line["device"]) == ("abc", "NVIDIA H200") for line in lines)


@pytest.mark.slow
def test_what_a_step_has_started_ends_with_it(call, tmp_path):
    marker = tmp_path / "alive"
    child = f"import time; time.sleep(12); open({str(marker)!r}, 'w')"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    _, lines = call([step("hangs", script, 6)])
    assert endings(lines) == {"hangs": LIMIT}
    time.sleep(8)
    assert not marker.exists()


def test_a_later_call_goes_on_with_what_has_not_come_to_an_end(call, monkeypatch):
    steps = [step("good", REPORT), step("red", "raise SystemExit(1)"), step("late", REPORT, 0.01)]
    call(steps)
    steps[-1] = step("late", REPORT)
    code, lines = call([*steps, step("new", REPORT)], "--resume")
    assert code == 0
    assert [line["step"] for line in lines if "ended" in line] == [
        *("good", "red", "late"),
        *("late", "new"),
    ]
    monkeypatch.setattr(gpu, "_commit", lambda: "another")
    _, lines = call(steps[:1], "--resume")
    assert lines[-1]["commit"] == "another"


def test_results_stand_in_the_file_while_a_step_runs(call, tmp_path):
    out = tmp_path / "results.jsonl"
    script = REPORT + f"import time; time.sleep(3); assert 'two' in open({str(out)!r}).read()"
    _, lines = call([step("looks", script)])
    assert endings(lines) == {"looks": DONE}


@pytest.mark.slow
def test_the_minutes_bound_all_steps_together(call):
    steps = [step("long", "import time; time.sleep(100)"), step("never", REPORT)]
    code, lines = call(steps, "--minutes", "0.15")
    assert code == 1
    assert endings(lines) == {"long": LIMIT}


def test_steps_are_chosen_by_name(call, capsys):
    steps = [step("one", REPORT), step("other", REPORT)]
    _, lines = call(steps, "--steps", "other")
    assert endings(lines) == {"other": DONE}
    with pytest.raises(SystemExit):
        call(steps, "--steps", "third")
    assert "must be of ['one', 'other'], got ['third']" in capsys.readouterr().err


def test_without_a_gpu_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(gpu.subprocess, "check_output", lambda *a, **k: "\n")
    with pytest.raises(SystemExit, match="no GPU that this torch can use was found"):
        gpu.main([])
    assert gpu._device(rehearse=True) == "cpu"


def test_the_steps_up_to_the_tests_fit_into_nine_minutes():
    names = [one.name for one in STEPS]
    assert sum(one.seconds for one in STEPS[: names.index("tests") + 1]) <= 540
    assert len(set(names)) == len(names)


@pytest.mark.slow
@pytest.mark.parametrize("name", [one.name for one in STEPS])
def test_every_step_runs_in_its_smallest_form(name, tmp_path):
    out = tmp_path / "results.jsonl"
    assert gpu.main(["--rehearse", "--steps", name, "--out", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines[-1]["ended"] == DONE
    assert all("what" in line for line in lines[:-1])
    assert lines[:-1], "a step reports something"


def test_a_failure_among_the_tests_is_a_result_of_its_own(tmp_path):
    red = tmp_path / "test_red.py"
    red.write_text("def test_green(): pass\ndef test_red(): assert 1 == 2, 'not equal'\n")
    script = (
        "from benchmarks.tools.gpu_steps import tests; tests.REHEARSES = False; tests.WORKERS = 1; "
        f"tests.FILES = [{str(red)!r}]; tests.run()"
    )
    lines = []
    ending = gpu.run(step("tests", script), 120, True, lambda name, values: lines.append(values))
    assert ending == FAILED
    failure, counts = lines[:2]
    assert failure["test"].endswith("test_red.py::test_red")
    assert "not equal" in failure["text"]
    assert (counts["passed"], counts["failed"]) == (1, 1)
