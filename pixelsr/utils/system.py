"""Processors, memory and forks: limits that the operating system sets for this process."""

import ctypes
import math
import os
import sys
import threading
from pathlib import Path

import torch

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def control_groups() -> list[Path]:
    """The folders of its own group and of those around it, each of which may set a limit."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = _ROOT / own.strip("/")
    return [folder for folder in (group, *group.parents) if folder.is_relative_to(_ROOT)]


def usable_processors() -> int:
    """Those that it may run on; fewer where the container has only so much of their time."""
    affinity = getattr(os, "sched_getaffinity", None)  # of Linux
    own = len(affinity(0)) if affinity else os.cpu_count() or 1
    return int(min([own, *map(_quota, control_groups())]))


def _quota(group: Path) -> float:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no control groups, or "max"
        return math.inf


_MEMINFO = Path("/proc/meminfo")
_CPU = torch.device("cpu")


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, within the limits of the container.

    None where the system does not tell.
    """
    try:
        lines = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    within = [_left(group) for group in control_groups()]
    return min([free, *(left for left in within if left is not None)])


def in_gib(size: int) -> str:
    """Return a number of bytes in words, such as "1.37 GiB"."""
    gib = size / 2**30
    return f"{gib:,.0f} GiB" if gib >= 100 else f"{gib:.3g} GiB"


def _left(group: Path) -> int | None:
    """Bytes below the limit of a control group; None where it has none.

    Of what it uses, the files that were read and are kept for the next reader give way.
    """
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - used + int(statistics["inactive_file"])
    except (OSError, KeyError, ValueError):
        return None


def available_on(device: torch.device) -> int | None:
    """Bytes that can be allocated on a device; those that PyTorch keeps for reuse are free too."""
    if device.type != "cuda":
        return available_memory()
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def check_memory(needed: int, images: int, advice: str, device: torch.device = _CPU) -> None:
    """Refuse a batch that would not fit, before anything of it is allocated.

    Args:
        needed: bytes.
        advice: what the caller can do about it.
    """
    free = available_on(device)
    if free is not None and needed > free:
        raise ValueError(
            f"{images} images at once need {in_gib(needed)} of memory, "
            f"and {in_gib(free)} are free; {advice}"
        )


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # from malloc.h


def keep_freed_memory() -> None:
    """Turn off mmap for large blocks and the trimming of the heap, where the C library is glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


_TASKS = Path("/proc/self/task")


_had_threads = False
"""Of the parent, when it forked."""


def watch_forks() -> None:
    """Let children of this process that fork from now on compute, as DataLoader's workers do.

    A child of a process whose native threads (OpenMP's) have run would wait for them for ever in
    its first parallel operation. It uses one thread instead.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_look, after_in_child=_use_one_thread)


def _look() -> None:
    """Find out whether threads run that Python does not know; assume so where it is not told."""
    global _had_threads
    try:
        _had_threads = len(list(_TASKS.iterdir())) > threading.active_count()
    except OSError:
        _had_threads = True


def _use_one_thread() -> None:
    if _had_threads:
        torch.set_num_threads(1)
