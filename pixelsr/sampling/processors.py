"""How many processors a process may use."""

import math
import os
from pathlib import Path

from .control_groups import control_groups


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
