"""Tests of `pixelsr doctor`: it reports what can run here, and why the rest cannot."""

import re

import pytest
import torch

import pixelsr
from pixelsr import ops
from pixelsr.cli import doctor
from pixelsr.models import base
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
    reasons = {"reference": None, "cuda": "no GPU was found"}
    monkeypatch.setattr(doctor, "ENGINES", reasons)
    monkeypatch.setattr(doctor, "why_not", lambda name, device: reasons[name])
    monkeypatch.setattr(doctor, "OPERATORS", {})
    lines = report()
    assert lines["reference"] == "ready"
    assert lines["cuda"] == "no: no GPU was found"


def test_every_known_engine_is_listed(report):
    lines = report()
    for name in ("reference", "cpu", "triton", "cuda"):
        assert lines[name] == "ready" or lines[name].startswith("no: ")
    assert lines["reference"] == "ready"


def test_backends_of_the_operators_are_listed(report):
    assert report()["cropped"] == "ready"


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
