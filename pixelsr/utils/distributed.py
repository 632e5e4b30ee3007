"""The processes of one command: a single one, or several started by `torchrun`."""

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
"""The timeout for a worker that reads a million images, or draws a large share."""


@dataclasses.dataclass(frozen=True)
class Workers:
    """The rank of this process and the number of processes; with one, methods communicate nothing.

    All methods but `share` are collective: every worker must call them, in the same order.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Return True in the process that writes files and prints."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Return this worker's part of `total` items: contiguous, in rank order."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def agree(self, value: Any) -> Any:
        """Return the first worker's value in every worker."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Return every worker's value, in rank order, in every worker."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def any(self, value: bool) -> bool:
        """Return True in every worker if the value is true in at least one."""
        return any(self.gather(value))

    def mean(self, value: Tensor) -> Tensor:
        """Return the elementwise mean over the workers; `value` may be modified in place."""
        if self.count > 1:
            dist.all_reduce(value)
            value /= self.count
        return value


@contextlib.contextmanager
def workers(device: torch.device) -> Iterator[Workers]:
    """Connect the processes of this command for the duration of the context.

    A DistributedDataParallel that outlives the context can hang the process: it then frees the
    connection, which waits for a Gloo thread, which waits for Python's GIL. So create it in a
    function that is called within the context.

    Args:
        device: the device of the workers; NCCL connects GPUs, Gloo everything else.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Workers()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Its functions bind the group that exists at import time as a default argument.
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
    """Free the local variables in the tracebacks of an error and of its contexts."""
    if error is not None:
        traceback.clear_frames(error.__traceback__)
        _clear_frames(error.__context__)  # the cause is the context too, or was caught further up


def local_rank() -> int:
    """Return the rank of this process on this machine, which selects its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))
