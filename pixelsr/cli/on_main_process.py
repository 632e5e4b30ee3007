"""What a command does where `torchrun` starts several of it."""

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
def team(wanted: str) -> Iterator[tuple[Workers, torch.device]]:
    """The workers of this command, and where this one computes: "cpu", or a GPU if there is one.

    Arguments that do not fit are found by every worker alike, and the first one speaks for all. So
    it does of a full disk; to the others, who write nothing, it is then lost.

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
    """For Gloo, torch has no exception of its own."""
    return isinstance(error, DistError) or "gloo/transport" in str(error)


def by_first(team: Workers, work: Callable[[], T]) -> T:
    """What `work` returns in the first worker, which alone runs it, in every worker.

    Where it raises, the first worker speaks of it, and the others end without a word.
    """
    if not team.is_first:
        made: T | None = team.agree(None)
        if made is None:
            raise click.exceptions.Exit(1)
        return made
    try:
        made = work()
    except BaseException:
        team.agree(None)
        raise
    team.agree(made)
    return made


def find_device(wanted: str) -> torch.device:
    """Where this worker computes: a GPU of its own where there is one, unless "cpu" is wanted.

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
