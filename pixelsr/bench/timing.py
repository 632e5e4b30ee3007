"""The clock, CUDA graphs, and the machine that results are of."""

import contextlib
import dataclasses
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch

from pixelsr import __version__


def seconds(device: torch.device, work: Callable[..., object], *arguments: object) -> float:
    """How long ``work(*arguments)`` takes, to its end on a GPU too."""
    _wait(device)
    start = time.perf_counter()
    work(*arguments)
    _wait(device)
    return time.perf_counter() - start


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of times that were taken in turn; those without a partner are not.

    Not the ratio of medians: what slows a whole round down, such as other work on the machine,
    cancels in each ratio.
    """
    return statistics.median(a / b for a, b in zip(above, below, strict=False))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


WARM_UPS = 3
"""Calls before the capture: libraries choose their kernels, Triton compiles."""
T = TypeVar("T")


def uses_graphs(device: torch.device) -> bool:
    """Is PyTorch timed there by CUDA graphs, in bfloat16? That is its strongest form on a GPU."""
    return device.type == "cuda"


@contextlib.contextmanager
def quickest_convolutions() -> Iterator[None]:
    """cuDNN times its kernels for each new shape, and keeps the quickest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def graphed(device: torch.device, work: Callable[[], T]) -> Callable[[], T]:
    """The replay of `work`, which has to read the same tensors each time; on a CPU `work` itself.

    A replay gives what the capture gave: the same tensors, written anew.
    """
    if device.type != "cuda":
        return work
    with torch.cuda.device(device):
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream(device).wait_stream(stream)
    return captured(device, work)


def captured(device: torch.device, work: Callable[[], T]) -> Callable[[], T]:
    """As `graphed`, of work that somebody has warmed up: it is called once, and not run.

    Raises:
        RuntimeError: it cannot be captured.
    """
    if device.type != "cuda":
        raise RuntimeError(f"CUDA graphs need a GPU, the model is on {device}")
    with torch.cuda.device(device):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            made = work()
    return Replay(graph, work, made)


@dataclasses.dataclass(frozen=True)
class Replay(Generic[T]):
    """A graph as a function.

    Attributes:
        work: what was captured. It keeps the tensors that the graph reads and writes: a graph has
            only their addresses.
        made: what it gave.
    """

    graph: torch.cuda.CUDAGraph
    work: Callable[[], T]
    made: T

    def __call__(self) -> T:
        self.graph.replay()
        return self.made


def machine(device: torch.device) -> dict[str, Any]:
    """Device, threads, system and versions, as JSON values."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pixelsr": __version__,
    }


def cpu_name() -> str:
    """The processor's name and number of cores, or only its architecture where no more is known."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return f"{len(names)} x {names[0]}"
    except (OSError, IndexError):
        return platform.machine()
