"""Loads the compiled library, which adds kernels under the names of the operators."""

import importlib.util
import logging
import os
from pathlib import Path

import torch


def _load() -> str | None:
    """Load the compiled kernels; the reason why not where there are none."""
    if os.environ.get("PIXELSR_NO_EXTENSION") == "1":
        return "PIXELSR_NO_EXTENSION=1"
    spec = importlib.util.find_spec("pixelsr._C")
    path = os.environ.get("PIXELSR_EXTENSION") or (spec and spec.origin)
    if not path:
        return "the C++ extension was not built (see CONTRIBUTING.md, or run `make venv`)"
    try:
        torch.ops.load_library(Path(path))
    except OSError as error:
        return f"the C++ extension did not load: {error}"
    return None


WHY_NOT_COMPILED: str | None = _load()
"""None where the C++ kernels serve the CPU; otherwise the reason why they do not."""

if WHY_NOT_COMPILED:
    logging.getLogger("pixelsr").debug(WHY_NOT_COMPILED)
