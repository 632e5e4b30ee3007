"""The work of `pixelsr doctor`."""

import platform
from collections.abc import Iterator, Mapping
from importlib import metadata

import torch
from rich.console import Console
from rich.table import Table

import pixelsr
from pixelsr import ops
from pixelsr.models.base import BUNDLED
from pixelsr.models.loading import CONFIG, WEIGHTS
from pixelsr.ops import backends
from pixelsr.sampling.engines import ENGINES, unsupported_reason

Line = tuple[str, str]
OPERATORS: Mapping[str, Mapping[str, backends.Backend]] = {
    "masked_conv2d": backends.MASKED_CONV2D,
    "gate": backends.GATE,
}
PLAIN_WIDTH = 200
"""Columns if the output is not a terminal: wide, so that each reason fits on one line."""


def run() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, markup=False, width=PLAIN_WIDTH)
    _show(console, "Versions", _versions())
    _show(console, "Machine", _machine())
    _show(console, f"Sampling engines, on {device.type}", _engines(device))
    for name, operator in OPERATORS.items():
        _show(console, f"Backends of {name}, on {device.type}", _backends(operator, device))
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
    for name in ENGINES:
        yield name, _verdict(unsupported_reason(name, device))


def _backends(operator: Mapping[str, backends.Backend], device: torch.device) -> Iterator[Line]:
    x = torch.zeros(1, 3, 8, 8, device=device)
    for name, backend in operator.items():
        yield name, _verdict(backend.can_run(x))


def _models() -> Iterator[Line]:
    folders = sorted(path.parent for path in BUNDLED.glob(f"*/{CONFIG}"))
    if not folders:
        yield "none", f"in {BUNDLED}"
    for folder in folders:
        weights = folder / WEIGHTS
        whole = weights.is_file()
        yield folder.name, f"{weights.stat().st_size / 1e6:.1f} MB" if whole else "weights missing"


def _verdict(why_not_here: str | None) -> str:
    return "ready" if why_not_here is None else f"no: {why_not_here}"
