"""The loader of the compiled libraries, which add kernels to the registered operators."""

import functools
import importlib.util
import logging
import os
import warnings
from pathlib import Path

import torch

REBUILD = "`pip install --no-build-isolation -e .` in the checkout"
"""The command that builds the extensions. It needs PyTorch and a C++ compiler."""


def _load(name: str, language: str, path: str | None = None) -> str | None:
    """Load compiled kernels; return None, or the reason why they are not available."""
    if os.environ.get("PIXELSR_NO_EXTENSION") == "1":
        return "PIXELSR_NO_EXTENSION=1"
    spec = importlib.util.find_spec(name)
    path = path or (spec.origin if spec else None)
    if not path:
        return f"the {language} extension was not built; {REBUILD} builds it"
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
"""The reason why the C++ kernels for the CPU are not available, or None if they are."""

WHY_NO_CUDA: str | None = _load_cuda()
"""The reason why the CUDA kernels are not available, or None if they are."""


@functools.cache  # once in a process
def warn_of_missing_kernels() -> None:
    """Warn that the C++ kernels are missing, unless the user switched them off."""
    if WHY_NOT_COMPILED and os.environ.get("PIXELSR_NO_EXTENSION") != "1":
        warnings.warn(
            f"pixelsr runs without its C++ kernels, many times slower: {WHY_NOT_COMPILED}",
            RuntimeWarning,
            stacklevel=2,
        )


for _reason in (WHY_NOT_COMPILED, WHY_NO_CUDA):
    if _reason:
        logging.getLogger("pixelsr").debug(_reason)
