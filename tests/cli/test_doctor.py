"""Tests of `pixelsr doctor`: it reports what can run here, and why the rest cannot."""

import re

import pytest
import torch

import pixelsr
from pixelsr import ops
from pixelsr.cli import doctor
from pixelsr.models import base
from pixelsr.ops import backends
from pixelsr.ops.backends import OPERATORS, Backend
from pixelsr.ops.compiled import REBUILD
from tests.support.command_cases import invoke


@pytest.fixture
def report():
    """Return a function that runs the command and returns its lines as a dictionary.

    A name that appears twice keeps its last line.
    """

    def run() -> dict[str, str]:
        result = invoke("doctor")
        assert result.exit_code == 0, result.output
        found = re.findall(r"^  (\S+(?: \S+)*) {2,}(\S.*?) *$", result.stdout, re.MULTILINE)
        return dict(found)

    return run


def test_names_the_versions(report):
    lines = report()
    assert lines["pixelsr"] == pixelsr.__version__
    assert lines["torch"] == torch.__version__


def test_says_whether_the_compiled_kernels_are_loaded(report, monkeypatch):
    monkeypatch.setattr(ops, "WHY_NOT_COMPILED", None)
    instructions = torch.ops.pixelsr.instruction_set()
    assert report()["C++ kernels"] == f"ready, {instructions} instructions"
    monkeypatch.setattr(ops, "WHY_NOT_COMPILED", "no compiler was found")
    assert report()["C++ kernels"] == "no: no compiler was found"


def test_says_whether_the_cuda_kernels_are_loaded(report, monkeypatch):
    monkeypatch.setattr(ops, "WHY_NO_CUDA", None)
    assert report()["CUDA kernels"] == "ready"
    reason = f"the CUDA extension was not built; {REBUILD} builds it"
    monkeypatch.setattr(ops, "WHY_NO_CUDA", reason)
    assert report()["CUDA kernels"] == f"no: {reason}"


def test_says_which_engines_can_run_and_why_the_rest_cannot(report, monkeypatch):
    reasons = {"cuda": "no GPU was found", "triton": None, "cpu": None, "reference": None}
    skipped = reasons | {"triton": "the interpreter is for tests"}
    monkeypatch.setattr(doctor, "ENGINES", reasons)
    monkeypatch.setattr(doctor, "unsupported_reason", lambda name, device: reasons[name])
    monkeypatch.setattr(doctor, "auto_reason", lambda name, device: skipped[name])
    monkeypatch.setattr(doctor, "OPERATORS", {})
    lines = report()
    assert lines["cuda"] == "no: no GPU was found"
    assert lines["triton"] == "ready; auto skips it: the interpreter is for tests"
    assert lines["cpu"] == "ready; auto tries it first"
    assert lines["reference"] == "ready"


def test_every_known_engine_is_listed(report, monkeypatch):
    monkeypatch.setattr(doctor, "OPERATORS", {})
    lines = report()
    for name in ("reference", "cpu", "triton", "cuda"):
        assert lines[name].startswith(("ready", "no: "))


def test_every_table_of_backends_is_listed():
    def is_table(value):
        return isinstance(value, dict) and isinstance(next(iter(value.values()), None), Backend)

    tables = [value for value in vars(backends).values() if is_table(value)]
    assert len(tables) == 4
    assert all(any(table is own for own in OPERATORS.values()) for table in tables)
    output = invoke("doctor").stdout
    for operator, table in OPERATORS.items():
        section = output.split(f"Backends of {operator}, on ")[1].split("\n\n")[0]
        assert re.findall(r"^  (\S+)", section, re.MULTILINE) == list(table)


@pytest.mark.parametrize("operator", OPERATORS)
def test_auto_takes_the_backend_that_is_said_to_be_taken(report, monkeypatch, operator):
    monkeypatch.setattr(doctor, "OPERATORS", {operator: OPERATORS[operator]})
    monkeypatch.setattr(doctor, "ENGINES", {})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = backends.choose("auto", OPERATORS[operator], torch.zeros(1, 3, 8, 8, device=device))
    assert [k for k, line in report().items() if line.endswith("auto takes it")] == [chosen]


def test_bundled_models_come_with_their_size(report, monkeypatch, tmp_path):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / base.CONFIG).write_text("{}")
    monkeypatch.setattr(doctor, "BUNDLED", tmp_path)
    assert report()["faces"] == "weights missing"
    (tmp_path / "faces" / base.WEIGHTS).write_bytes(bytes(2_500_000))
    assert report()["faces"] == "2.5 MB"


def test_a_long_reason_stays_in_one_line(report, monkeypatch):
    reason = "because " + "x" * 100 + " of this"
    monkeypatch.setattr(ops, "WHY_NOT_COMPILED", reason)
    assert report()["C++ kernels"] == f"no: {reason}"
