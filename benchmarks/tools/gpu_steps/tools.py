"""The step that draws under the sanitizer's tools and the profiler, if they are installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import torch

import pixelsr

from . import REHEARSES, report
from .setting import DEVICE, emulate

SECONDS = 24
"""The time limit of each tool."""
TOOLS = {
    "memcheck": ("compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9"),
    "racecheck": ("compute-sanitizer", "--tool", "racecheck", "--error-exitcode", "9"),
    "ncu": (
        *("ncu", "--clock-control", "none", "--set", "basic"),
        *("--kernel-name", "regex:sample_tiles", "--launch-count", "1"),
    ),
}
FOLDER = Path("/usr/local/cuda/bin")


def run() -> None:
    for name, (program, *options) in TOOLS.items():
        found = shutil.which(program) or shutil.which(program, path=str(FOLDER))
        if found is None and not REHEARSES:
            report(what=name, missing=program)
            continue
        check(name, [found, *options] if found else [])


def check(name: str, tool: list[str]) -> None:
    """Draw in a process under a tool, and report the tool's output."""
    command = [
        *tool,
        sys.executable,
        "-c",
        "from benchmarks.tools.gpu_steps.tools import draw; draw()",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        report(what=name, timed_out=SECONDS)
        return
    report(what=name, code=done.returncode, said=(done.stdout + done.stderr)[-4000:])


def draw() -> None:
    """Draw two samples, so that a cluster of blocks draws them."""
    emulate()
    torch.manual_seed(0)
    model = pixelsr.GatedPixelCNN(channels=64, layers=1, kernel_size=3, head_channels=64, levels=8)
    model = model.to(DEVICE, torch.bfloat16).eval()
    pixelsr.sample(model, 2, image_size=(2, 2), engine="cuda")
