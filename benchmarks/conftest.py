"""No speed is reported while a test of the same thing fails; results name their machine."""

import platform
import subprocess
import sys
from typing import Any

import pytest
import torch

import pixelsr
from benchmarks.registry import GUARDS


@pytest.fixture(scope="module", autouse=True)
def _tests_are_green(request: pytest.FixtureRequest) -> None:
    guards = GUARDS[request.module.__name__.rpartition(".")[2]]
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", *guards], capture_output=True)
    if run.returncode:
        pytest.fail(f"not measured: a test of it fails\n{run.stdout.decode()}")


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    cuda = torch.cuda.is_available()
    kept = {"python_version": machine_info["python_version"], "system": platform.system()}
    machine_info.clear()
    machine_info.update(
        kept,
        device=torch.cuda.get_device_name() if cuda else _cpu_name(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        pixelsr=pixelsr.__version__,
    )


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return f"{len(names)} x {names[0]}"
    except (OSError, IndexError):
        return platform.machine()
