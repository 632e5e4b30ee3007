"""The step that builds the kernels for this machine's GPU only, and installs the package."""

import json
import os
import subprocess
import sys

import torch

from . import REHEARSES, report

WHY_NOT = """
import json
from pixelsr import ops
print(json.dumps({"C++": ops.WHY_NOT_COMPILED, "CUDA": ops.WHY_NO_CUDA}))
"""


def architecture() -> str:
    """Return nvcc's architecture of this GPU; Hopper-only instructions need sm_90a."""
    major, minor = torch.cuda.get_device_capability()
    return "sm_90a" if major == 9 else f"sm_{major}{minor}"


def run() -> None:
    if not REHEARSES:
        environment = {**os.environ, "PIXELSR_CUDA_ARCHITECTURES": architecture()}
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "-e", "."], env=environment, check=True)
    why_not = json.loads(subprocess.check_output([sys.executable, "-c", WHY_NOT], text=True))
    report(what="built", why_not=why_not, torch=torch.__version__)
    if not REHEARSES and any(why_not.values()):
        sys.exit(f"kernels are missing: {why_not}")
