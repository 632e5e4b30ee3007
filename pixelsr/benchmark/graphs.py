"""Work as a CUDA graph: launching it costs next to nothing, however small its kernels are."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch

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
