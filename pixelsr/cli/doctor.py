"""The work of `pixelsr doctor`."""

import platform
from collections.abc import Iterable, Iterator
from importlib import metadata

import torch
from rich.console import Console
from rich.table import Table

import pixelsr
from pixelsr import ops
from pixelsr.models.base import BUNDLED
from pixelsr.models.loading import CONFIG, WEIGHTS
from pixelsr.ops.backends import OPERATORS, Backends
from pixelsr.sampling.engines import ENGINES, auto_reason, unsupported_reason

from .tables import make_console

Line = tuple[str, str]
PLAIN_WIDTH = 200
"""Columns if the output is not a terminal: wide, so that each reason fits on one line."""


def run() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = make_console(None if Console().is_terminal else PLAIN_WIDTH)
    _show(console, "Versions", _versions())
    _show(console, "Machine", _machine())
    _show(console, f"Sampling engines, on {device.type}", _engines(device))
    for name, backends in OPERATORS.items():
        _show(console, f"Backends of {name}, on {device.type}", _backends(backends, device))
    _show(console, "Bundled models", _models())


def _show(console: Console, title: str, lines: Iterator[Line]) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in lines:
        table.add_row(f"  {name}", value)
    console.print(title, style="bold")
    console.print(table)
    console.print()


def _versions() -> Iterator[Line]:
    yield "pixelsr", pixelsr.__version__
    yield "python", platform.python_version()
    yield "torch", torch.__version__
    for package in ("triton", "pillow", "numpy"):
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"


def _machine() -> Iterator[Line]:
    yield "system", f"{platform.system()} {platform.machine()}"
    yield "CPU", f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    built = ops.WHY_NOT_COMPILED is None
    used = f", {torch.ops.pixelsr.instruction_set()} instructions" if built else ""
    yield "C++ kernels", f"{_verdict(ops.WHY_NOT_COMPILED)}{used}"
    yield "CUDA kernels", _verdict(ops.WHY_NO_CUDA)
    if not torch.cuda.is_available():
        with_cuda = torch.version.cuda is not None
        yield "GPU", "none found" if with_cuda else "none: this torch is built for the CPU only"
    for k in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(k)
        yield (
            f"GPU {k}",
            f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, sm_{gpu.major}{gpu.minor}",
        )


def _engines(device: torch.device) -> Iterator[Line]:
    """Yield a line for each engine. Whether it supports a model is known only at a draw."""
    return _choices(
        ((name, unsupported_reason(name, device), auto_reason(name, device)) for name in ENGINES),
        "auto tries it first",
    )


def _backends(backends: Backends, device: torch.device) -> Iterator[Line]:
    x = torch.zeros(1, 3, 8, 8, device=device)
    return _choices(
        (
            (name, backend.unsupported_reason(x), backend.auto_reason(x))
            for name, backend in backends.items()
        ),
        "auto takes it",
    )


def _choices(
    candidates: Iterable[tuple[str, str | None, str | None]], of_first: str
) -> Iterator[Line]:
    """Yield a line for each candidate, the best first; `of_first` is said of what "auto" prefers.

    A candidate is a name, the reason why it cannot run, and the reason why "auto" does not take it.
    """
    taken = False
    for name, unsupported, skipped in candidates:
        if unsupported is None and skipped is not None:
            yield name, f"ready; auto skips it: {skipped}"
            continue
        is_taken = skipped is None and not taken
        yield name, _verdict(unsupported) + (f"; {of_first}" if is_taken else "")
        taken = taken or is_taken


def _models() -> Iterator[Line]:
    folders = sorted(path.parent for path in BUNDLED.glob(f"*/{CONFIG}"))
    if not folders:
        yield "none", f"in {BUNDLED}"
    for folder in folders:
        weights = folder / WEIGHTS
        whole = weights.is_file()
        yield folder.name, f"{weights.stat().st_size / 1e6:.1f} MB" if whole else "weights missing"


def _verdict(unsupported: str | None) -> str:
    return "ready" if unsupported is None else f"no: {unsupported}"
