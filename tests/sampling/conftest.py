"""The fixtures of all tests of sampling: an engine, and the machine that it runs on."""

import sys
from collections.abc import Callable, Iterator

import pytest
import torch

from pixelsr import ops
from pixelsr.ops.registry import HAS_TRITON
from pixelsr.sampling.engines.cpu import engine as cpu_engine
from pixelsr.sampling.engines.cuda import engine as cuda_engine
from tests.support.emulator.build import HERE, build
from tests.support.engines import ENGINES, HAS_CUDA_ENGINE, TestedEngine


@pytest.fixture(scope="session")
def emulator() -> None:
    """Load the CUDA kernel for the emulated machine."""
    if sys.platform != "linux":
        pytest.skip("fibers need Linux here")
    torch.ops.load_library(build([HERE / "run_tiles.cpp"], "run_tiles"))


@pytest.fixture
def cuda_machine(request, monkeypatch) -> None:
    """Let the CUDA engine run: on the emulated machine if there is no GPU."""
    if not HAS_CUDA_ENGINE:
        request.getfixturevalue("emulator")
        monkeypatch.setattr(cuda_engine, "EMULATES", True)


@pytest.fixture
def interpreter(request) -> Iterator[None]:
    """Let the Triton engine run, and turn TF32 off in PyTorch, which the engine does not use."""
    if not HAS_TRITON:
        pytest.skip("triton is not installed")
    request.getfixturevalue("quick_interpreter")
    switch = torch.backends.cudnn.conv
    before, switch.fp32_precision = switch.fp32_precision, "ieee"
    yield
    switch.fp32_precision = before


def _prepare(request) -> None:
    """Let the engine that a test asks for run, or skip the test."""
    if request.param == "cpu" and ops.WHY_NOT_COMPILED:
        pytest.skip(ops.WHY_NOT_COMPILED)
    if request.param == "triton":
        request.getfixturevalue("interpreter")
    if request.param == "cuda":
        request.getfixturevalue("cuda_machine")


@pytest.fixture
def engine(request) -> TestedEngine:
    """Return an engine that can run here; see `tests.support.engines.for_engines`."""
    _prepare(request)
    return ENGINES[request.param]


@pytest.fixture
def how(request) -> dict[str, str]:
    """Return an engine or a method; see `tests.support.engines.for_ways`."""
    _prepare(request)
    return {"method" if request.param == "ancestral" else "engine": request.param}


@pytest.fixture
def threads(monkeypatch) -> Iterator[Callable[[int], None]]:
    """Yield a function that sets the number of threads, regardless of the number of processors."""
    monkeypatch.setattr(cpu_engine, "usable_processors", lambda: 1000)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
