"""Timing, CUDA graphs, and a description of the machine."""

import contextlib
import dataclasses
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch

from pixelsr import __version__


def seconds(device: torch.device, work: Callable[..., object], *arguments: object) -> float:
    """Return the seconds that ``work(*arguments)`` takes; on a GPU, wait until it has finished."""
    _wait(device)
    start = time.perf_counter()
    work(*arguments)
    _wait(device)
    return time.perf_counter() - start


def in_turns(
    device: torch.device, sides: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of each side in each round; in a round, every side runs once."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(seconds(device, side))
    return times


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of paired times; times without a partner are ignored.

    Unlike the ratio of medians, this cancels whatever slows down a whole round, such as other work
    on the machine.
    """
    return statistics.median(a / b for a, b in zip(above, below, strict=False))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


WARM_UPS = 3
"""The calls before a capture, in which libraries select kernels and Triton compiles."""
T = TypeVar("T")


def uses_graphs(device: torch.device) -> bool:
    """Return True if PyTorch is timed with bfloat16 CUDA graphs, its fastest form, on a device."""
    return device.type == "cuda"


@contextlib.contextmanager
def quickest_convolutions() -> Iterator[None]:
    """Let cuDNN time its kernels for each new shape and keep the fastest, within the context."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def graphed(device: torch.device, work: Callable[[], T]) -> Callable[[], T]:
    """Capture `work` and return its replay; on a CPU return `work` itself.

    `work` must read the same tensors each time. A replay returns the tensors of the capture, with
    new contents.
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
    """Capture `work`, which must be warmed up already, and return its replay.

    Raises:
        RuntimeError: `work` cannot be captured.
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
    """A captured graph that can be called like a function.

    Attributes:
        work: the captured function. It keeps alive the tensors that the graph reads and writes,
            because the graph itself has only their addresses.
        made: the return value of `work` in the capture.
    """

    graph: torch.cuda.CUDAGraph
    work: Callable[[], T]
    made: T

    def __call__(self) -> T:
        self.graph.replay()
        return self.made


def machine(device: torch.device) -> dict[str, Any]:
    """Return device, threads, system and versions as JSON values."""
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
    """Return the number of cores and the processor's name, or its architecture if unknown."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return f"{len(names)} x {names[0]}"
    except (OSError, IndexError):
        return platform.machine()
