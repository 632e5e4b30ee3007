"""The step that runs the GPU tests in parallel, and reports each failure when it happens."""

import sys

import pytest

from . import REHEARSES, report

WORKERS = 8
FILES = (
    "tests/sampling/engines/test_conformance.py",
    "tests/sampling/engines/test_engine_cuda.py",
    "tests/sampling/engines/test_engine_triton.py",
    "tests/ops/test_noise_triton.py",
    "tests/ops/test_tf32.py",
    "tests/ops/test_gate_triton.py",
    "tests/ops/test_masked_conv2d_triton.py",
    "tests/ops/test_pixel_cross_entropy_triton.py",
    "tests/ops/test_lstm_triton.py",
    "tests/models/test_models_on_gpu.py",
)
WITHOUT = "not without_spills"
"""The filter that leaves out tests that compile for GPUs; they need no GPU to run."""


class Reports:
    """A pytest plugin that counts results and reports failures."""

    def __init__(self) -> None:
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
        if report.failed:
            _report_failure(report.nodeid, report.duration, report.longreprtext)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            _report_failure(report.nodeid, 0, report.longreprtext)


def _report_failure(test: str, seconds: float, text: str) -> None:
    report(what="failure", test=test, seconds=round(seconds, 2), text=text[-2000:])


def run() -> None:
    reports = Reports()
    chosen = (
        ["tests/ops/test_tf32.py"] if REHEARSES else [*FILES, "-n", str(WORKERS), "-k", WITHOUT]
    )
    junit = "--junitxml=build/gpu-tests.xml"
    code = pytest.main(["-q", "--tb=short", junit, *chosen], plugins=[reports])
    report(what="tests", code=int(code), **reports.counts)
    sys.exit(int(code))
