"""The build of kernels and their launchers for the emulated GPU."""

import hashlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FOLDER = ROOT / "build" / "emulator"
FLAGS = (
    *("-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra"),
    "-Werror=switch",
    *("-DPIXELSR_EMULATED", "-DTORCH_TARGET_VERSION=0x020a000000000000"),
)
SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


def build(sources: Sequence[Path], name: str, flags: Iterable[str] = ()) -> Path:
    """Compile the sources unless that has been done, and return the path of the library.

    Under `make sanitize`, which preloads the sanitizers, the library is compiled for them.
    """
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    sanitize = SANITIZE if "libasan" in os.environ.get("LD_PRELOAD", "") else ()
    command = [*compiler, *FLAGS, *sanitize, *flags]
    library = FOLDER / f"{name}-{hash_of(sources, command)}.so"
    if library.exists():
        return library
    FOLDER.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests/support'}"]
    system = [part for path in include_paths() for part in ("-isystem", path)]
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        made = Path(folder) / library.name
        # A .cu file is compiled as C++. The library must link to libtorch_cpu to find its symbols.
        command += [*includes, *system, "-o", str(made), "-x", "c++", *map(str, sources)]
        command += ["-x", "none", *(f"-L{path}" for path in library_paths()), "-ltorch_cpu"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")
        made.replace(library)  # atomic, so that nobody sees a part of it
    return library


def hash_of(sources: Sequence[Path], command: Sequence[str]) -> str:
    """Return a name for what a command makes of the sources and of all headers."""
    files = [*sources, *sorted((ROOT / "csrc").rglob("*.h")), *sorted(HERE.glob("*"))]
    sums = [hashlib.sha256(path.read_bytes()).digest() for path in files if path.is_file()]
    text = repr([torch.__version__, *command])
    return hashlib.sha256(text.encode() + b"".join(sums)).hexdigest()[:16]
