"""The fixtures that refuse to measure while a related test fails, and that describe the machine."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from pixelsr.bench import machine

from .tools.registry import SUITES


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Return the device to measure: the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def _green() -> set[str]:
    """Return the set of test files that have passed; suites share guards."""
    return set()


@pytest.fixture(scope="module", autouse=True)
def _tests_are_green(request: pytest.FixtureRequest, _green: set[str]) -> None:
    guards = set(SUITES[request.module.__name__.rpartition(".")[2]].guards) - _green
    if not guards:
        return
    command = [sys.executable, "-m", "pytest", "-q", *sorted(guards)]
    run = subprocess.run(command, capture_output=True)
    if run.returncode:
        pytest.fail(f"not measured: a test of it fails\n{run.stdout.decode()}")
    _green |= guards


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info.clear()
    machine_info.update(machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")))
