"""Commands that `torchrun` starts in several processes."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import click
import torch
from torch.distributed import DistError

from pixelsr.utils.distributed import Workers, local_rank, workers
from pixelsr.utils.signals import Ended, as_ended

T = TypeVar("T")


@contextlib.contextmanager
def worker_group(wanted: str) -> Iterator[tuple[Workers, torch.device]]:
    """Yield the workers of this command, and the device of this one.

    Every worker finds the same wrong arguments, and only the first one reports them. Only the first
    worker writes files, so it also reports a full disk.

    Raises:
        ValueError: more workers on this machine than GPUs.
        ConnectionError: in the first worker, that another one has ended.
    """
    device = find_device(wanted)
    with workers(device) as all_workers:
        try:
            yield all_workers, device
        except (ValueError, FloatingPointError):
            if all_workers.is_first:
                raise
            raise click.exceptions.Exit(1) from None
        except (Ended, KeyboardInterrupt) as error:
            if all_workers.is_first:
                raise
            raise click.exceptions.Exit(as_ended(error).status) from None
        except RuntimeError as error:
            if not _is_lost_connection(error):
                raise
            if all_workers.is_first:
                raise ConnectionError("another worker has ended before its work was done") from None
            raise click.exceptions.Exit(1) from None


def _is_lost_connection(error: RuntimeError) -> bool:
    """Return True if another worker is gone; torch has no exception of its own for Gloo."""
    return isinstance(error, DistError) or "gloo/transport" in str(error)


def on_main_process(group: Workers, work: Callable[[], T]) -> T:
    """Run `work` in the first worker alone, and return its result in every worker.

    If it raises, the first worker reports the error, and the others end silently.
    """
    if not group.is_first:
        made: T | None = group.agree(None)
        if made is None:
            raise click.exceptions.Exit(1)
        return made
    try:
        made = work()
    except BaseException:
        group.agree(None)
        raise
    group.agree(made)
    return made


def check_device(wanted: str) -> None:
    """Check the option --device.

    Raises:
        ValueError: it is "cuda", and there is no GPU.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no CUDA device on this machine")


def find_device(wanted: str) -> torch.device:
    """Return the device of this worker: a GPU of its own, or the CPU if there is none or if wanted.

    Raises:
        ValueError: more workers on this machine than GPUs.
    """
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    number, count = local_rank(), torch.cuda.device_count()
    if number >= count:
        raise ValueError(
            f"worker {number + 1} needs a GPU of its own on this machine, which has {count}; "
            "expected at most as many workers as GPUs"
        )
    return torch.device("cuda", number)
