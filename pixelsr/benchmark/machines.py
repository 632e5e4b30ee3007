"""The machine that figures are of."""

import platform
from typing import Any

import torch

from pixelsr import __version__


def machine(device: torch.device) -> dict[str, Any]:
    """Device, threads, system and versions, as JSON values."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else cpu_name(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pixelsr": __version__,
    }


def cpu_name() -> str:
    """The processor's name and number of cores, or only its architecture where no more is known."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return f"{len(names)} x {names[0]}"
    except (OSError, IndexError):
        return platform.machine()
