"""The processes of one command: one alone, or those that `torchrun` started."""

import contextlib
import dataclasses
import datetime
import gc
import importlib
import os
import traceback
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = datetime.timedelta(days=1)
"""How long workers wait for one that reads a million images, or draws a large share."""


@dataclasses.dataclass(frozen=True)
class Workers:
    """This process among `count`; with one alone, every method is the identity.

    All but `share` are collective: every worker must call them, in the same order.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """True in the one process that writes and speaks."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """This worker's part of `total` items: contiguous, in the order of the ranks."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def agree(self, value: Any) -> Any:
        """The first worker's value, in every worker."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, in the order of the ranks, in every worker."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def any(self, value: bool) -> bool:
        """Return True in every worker where the value is true in at least one."""
        return any(self.gather(value))

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the workers, elementwise."""
        if self.count > 1:
            dist.all_reduce(value)
            value /= self.count
        return value


@contextlib.contextmanager
def workers(device: torch.device) -> Iterator[Workers]:
    """Connect the processes of this command while the context lasts.

    A DistributedDataParallel that outlives the context can hang the process: it then frees the
    connection, which waits for a thread of Gloo, which waits for the lock of Python. So create it
    in a function that the context calls.

    Args:
        device: what the workers compute on: NCCL connects GPUs, Gloo everything else.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Its functions keep the group that exists when they are imported, as a default argument.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Workers(dist.get_rank(), count, local_rank())
    except BaseException as error:
        _clear_frames(error)
        raise
    finally:
        gc.collect()
        dist.destroy_process_group()


def _clear_frames(error: BaseException | None) -> None:
    """Free the local variables of the functions that an error and its causes have ended."""
    if error is not None:
        traceback.clear_frames(error.__traceback__)
        _clear_frames(error.__context__)  # a cause is the context too, or was caught further up


def local_rank() -> int:
    """Number of this process among those on this machine: the GPU that it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))
