"""How much memory a process may still take."""

from pathlib import Path

import torch

from .control_groups import control_groups

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


def check_memory(needed: int, pictures: int, advice: str, device: torch.device = _CPU) -> None:
    """Refuse a batch that would not fit, before anything of it is allocated.

    Args:
        needed: bytes.
        advice: what the caller can do about it.
    """
    free = available_on(device)
    if free is not None and needed > free:
        raise ValueError(
            f"{pictures} pictures at once need {in_gib(needed)} of memory, "
            f"and {in_gib(free)} are free; {advice}"
        )
