"""Loads the compiled libraries, which add kernels under the names of the operators."""

import importlib.util
import logging
import os
from pathlib import Path

import torch


def _load(name: str, language: str, path: str | None = None) -> str | None:
    """Load compiled kernels; the reason why not where there are none."""
    if os.environ.get("PIXELSR_NO_EXTENSION") == "1":
        return "PIXELSR_NO_EXTENSION=1"
    spec = importlib.util.find_spec(name)
    path = path or (spec.origin if spec else None)
    if not path:
        return f"the {language} extension was not built (see CONTRIBUTING.md, or run `make venv`)"
    try:
        torch.ops.load_library(Path(path))
    except OSError as error:
        return f"the {language} extension did not load: {error}"
    return None


def _load_cuda() -> str | None:
    if torch.version.cuda is None:
        return "this torch is built for the CPU only"
    return _load("pixelsr._C_cuda", "CUDA")


WHY_NOT_COMPILED: str | None = _load("pixelsr._C", "C++", os.environ.get("PIXELSR_EXTENSION"))
"""None where the C++ kernels serve the CPU; otherwise the reason why they do not."""

WHY_NO_CUDA: str | None = _load_cuda()
"""None where the CUDA kernels are there; otherwise the reason why they are not."""

for _reason in (WHY_NOT_COMPILED, WHY_NO_CUDA):
    if _reason:
        logging.getLogger("pixelsr").debug(_reason)
