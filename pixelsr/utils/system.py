"""Processors, memory and forks: the limits of the operating system for this process."""

import ctypes
import functools
import math
import os
import sys
import threading
from pathlib import Path

import torch

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def control_groups() -> list[Path]:
    """Return the folders of this process's control group and its parents; each may set limits."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = _ROOT / own.strip("/")
    return [folder for folder in (group, *group.parents) if folder.is_relative_to(_ROOT)]


def usable_processors() -> int:
    """Return the number of processors that this process may use, within the container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    own = len(affinity(0)) if affinity else os.cpu_count() or 1
    return int(min([own, *map(_quota, control_groups())]))


def _quota(group: Path) -> float:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no control groups, or the limit is "max"
        return math.inf


_MEMINFO = Path("/proc/meminfo")
_CPU = torch.device("cpu")


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, within the container's limits.

    Return None if the system does not report it.
    """
    try:
        lines = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    within = [_left(group) for group in control_groups()]
    return min([free, *(left for left in within if left is not None)])


def in_gib(size: int) -> str:
    """Format a number of bytes, such as "1.37 GiB"."""
    gib = size / 2**30
    return f"{gib:,.0f} GiB" if gib >= 100 else f"{gib:.3g} GiB"


def _left(group: Path) -> int | None:
    """Return the bytes left below a control group's memory limit, or None if it has no limit.

    Inactive file cache counts as free, because the kernel reclaims it on demand.
    """
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - used + int(statistics["inactive_file"])
    except (OSError, KeyError, ValueError):
        return None


def available_on(device: torch.device) -> int | None:
    """Return the bytes that can be allocated on a device, including PyTorch's unused reserve."""
    if device.type != "cuda":
        return available_memory()
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def check_memory(needed: int, images: int, advice: str, device: torch.device = _CPU) -> None:
    """Check that a batch fits into memory, before it is allocated.

    Args:
        needed: bytes that the batch needs.
        images: number of images, for the message.
        advice: what the user can do about it, for the message.
    Raises:
        ValueError: the batch does not fit.
    """
    free = available_on(device)
    if free is not None and needed > free:
        raise ValueError(
            f"{images} images at once need {in_gib(needed)} of memory, "
            f"and {in_gib(free)} are free; {advice}"
        )


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h


def keep_freed_memory() -> None:
    """Turn off mmap for large blocks and heap trimming, if the C library is glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


_TASKS = Path("/proc/self/task")


_had_threads = False
"""True if the parent had native threads when it forked."""


@functools.cache  # once in a process
def watch_forks() -> None:
    """Let future forks of this process, such as DataLoader workers, compute without a deadlock.

    If native (OpenMP) threads have run in the parent, a forked child would wait for them forever in
    its first parallel operation. Such a child uses one thread instead.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_look, after_in_child=_use_one_thread)


def _look() -> None:
    """Record if threads run that Python does not know; assume so if the system does not say."""
    global _had_threads
    try:
        _had_threads = len(list(_TASKS.iterdir())) > threading.active_count()
    except OSError:
        _had_threads = True


def _use_one_thread() -> None:
    if _had_threads:
        torch.set_num_threads(1)
