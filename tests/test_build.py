"""The package without its compiled parts, and what importing it must not do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(script, **environment):
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_works_without_the_extension_and_says_why():
    script = """
import torch, pixelsr
from pixelsr.ops import WHY_NOT_COMPILED
out = torch.empty(1, 2, 3)
torch.ops.pixelsr.gumbel_noise_(out, 1, 2, 3)
assert torch.equal(out, pixelsr.reference.gumbel_noise_ref(1, 2, 1, 3, 2, 3))
print(WHY_NOT_COMPILED)
"""
    assert run(script, PIXELSR_NO_EXTENSION="1") == "PIXELSR_NO_EXTENSION=1"


def test_the_package_imports_where_there_is_no_triton():
    script = """
import sys
sys.modules["triton"] = None  # an import of it now raises ImportError
import torch, pixelsr
out = torch.empty(1, 1, 2)
torch.ops.pixelsr.gumbel_noise_(out, 0, 0, 0)
print("fine")
"""
    assert run(script) == "fine"


def test_importing_the_package_imports_no_kernel():
    assert run("import sys, pixelsr; print('pixelsr.kernels' in sys.modules)") == "False"


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not in a source tree")
def test_a_compiler_that_fails_does_not_fail_the_install(tmp_path):
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("pixelsr", "kernels"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "__init__.py", tmp_path / name)
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=tmp_path,
        env={**os.environ, "CXX": "false", "PIXELSR_NO_EXTENSION": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "installed without its C++ kernels: the compiler failed: " in done.stderr
