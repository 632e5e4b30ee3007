"""Forked children use one thread, as PyTorch's other threads do not survive a fork."""

import os
import threading
from pathlib import Path

import torch

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
