"""The control groups (version 2) whose limits hold for this process."""

from pathlib import Path

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
