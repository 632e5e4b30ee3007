"""Tests of the package without its compiled parts, and of what its import must not do."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
import torch
from torch.utils import cpp_extension

from tests.support import processes

ROOT = Path(__file__).parents[2]


def run(text, **environment):
    done = processes.run(processes.script, text, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_works_without_the_extension_and_says_why():
    script = """
import torch, pixelsr
from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref
from pixelsr.ops import WHY_NOT_COMPILED
out = torch.empty(1, 2, 3)
torch.ops.pixelsr.gumbel_noise_(out, 1, 2, 3)
assert torch.equal(out, gumbel_noise_ref(1, 2, 1, 3, 2, 3))
print(WHY_NOT_COMPILED)
"""
    assert run(script, PIXELSR_NO_EXTENSION="1") == "PIXELSR_NO_EXTENSION=1"


def test_the_package_imports_where_there_is_no_triton():
    script = """
import sys
sys.modules["triton"] = None  # an import of it now raises ImportError
import torch, pixelsr
from pixelsr.ops.gumbel_noise.reference import gumbel_noise_ref
out = torch.empty(1, 1, 2)
torch.ops.pixelsr.gumbel_noise_(out, 0, 0, 0)
print("fine")
"""
    assert run(script) == "fine"


def test_importing_the_package_imports_no_kernel():
    assert run("import sys, pixelsr; print('pixelsr.kernels' in sys.modules)") == "False"


def test_importing_the_package_does_not_import_dynamo():
    assert run("import sys, pixelsr; print('torch._dynamo' in sys.modules)") == "False"


BUILD = """
import os, runpy, sys, torch
os.chdir({folder!r})
{prepare}
sys.argv = ["setup.py", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""


in_source_tree = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not in a source tree")


def build_without_compiler(tmp_path, prepare="", **environment):
    """Return the stderr of a build where no compiler works, after a script has prepared it."""
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "pixelsr").mkdir()
    shutil.copy(ROOT / "pixelsr" / "__init__.py", tmp_path / "pixelsr")
    environment = {"CXX": "false", "PIXELSR_NO_EXTENSION": "0", **environment}
    text = BUILD.format(folder=str(tmp_path), prepare=prepare)
    done = processes.run(processes.script, text, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


@in_source_tree
def test_a_compiler_that_fails_does_not_fail_the_install(tmp_path):
    said = build_without_compiler(tmp_path)
    assert "installed without its C++ kernels: the compiler failed: " in said


@in_source_tree
def test_a_cuda_compiler_that_fails_does_not_fail_the_install(tmp_path):
    """Build with a torch that claims to be built for a GPU, and an nvcc that fails."""
    (tmp_path / "toolkit" / "bin").mkdir(parents=True)
    (tmp_path / "toolkit" / "bin" / "nvcc").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "toolkit" / "bin" / "nvcc").chmod(0o755)
    prepare = """
torch.version.cuda = "13.0"
torch.cuda._is_compiled, torch.cuda.is_available = lambda: True, lambda: False
"""
    said = build_without_compiler(tmp_path, prepare, CUDA_HOME=str(tmp_path / "toolkit"))
    for language in ("C++", "CUDA"):
        assert f"installed without its {language} kernels: the compiler failed: " in said


@pytest.fixture
def setup_py(monkeypatch):
    """Return the functions of setup.py without running its setup."""
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: None)
    monkeypatch.setenv("CUDA_HOME", "")  # monkeypatch restores it after setup.py sets it
    monkeypatch.chdir(ROOT)
    return runpy.run_path(str(ROOT / "setup.py"))


@in_source_tree
def test_cuda_kernels_are_built_where_torch_and_nvcc_are_for_it(setup_py, monkeypatch, tmp_path):
    why_no_cuda = setup_py["why_no_cuda"]
    monkeypatch.setattr(torch.version, "cuda", None)
    assert why_no_cuda() == "this torch is built for the CPU only"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
    assert "no CUDA toolkit was found" in why_no_cuda()
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path))
    assert why_no_cuda() == f"there is no nvcc in {tmp_path}/bin"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").touch()
    assert why_no_cuda() is None


@in_source_tree
def test_a_script_called_nvcc_does_not_hide_the_toolkit(setup_py, monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_HOME")
    monkeypatch.delenv("CUDA_PATH", raising=False)
    home = tmp_path / "cuda"
    for folder in (home / "bin", home / "include"):
        folder.mkdir(parents=True)
    (home / "bin" / "nvcc").touch(0o755)
    (home / "include" / "cuda_runtime.h").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").symlink_to(home / "bin" / "nvcc")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    setup_py["find_toolkit"]()
    assert os.environ["CUDA_HOME"] == str(home)
    monkeypatch.setenv("CUDA_HOME", "elsewhere")
    setup_py["find_toolkit"]()
    assert os.environ["CUDA_HOME"] == "elsewhere"


@in_source_tree
def test_the_cuda_extension_holds_code_for_each_architecture(setup_py, monkeypatch, tmp_path):
    monkeypatch.delenv("PIXELSR_CUDA_ARCHITECTURES", raising=False)
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path))
    extension = setup_py["cuda_extension"]()
    flags = extension.extra_compile_args["nvcc"]
    architectures = [flag.rpartition("code=")[2] for flag in flags if "-gencode" in flag]
    assert architectures == ["sm_80", "sm_90a", "compute_90"]
    assert not any("fast" in flag for flag in flags)
    assert ("USE_CUDA", None) in extension.define_macros
    assert extension.optional
    assert all((ROOT / path).is_file() for path in (*extension.sources, *extension.depends))


@in_source_tree
def test_code_can_be_for_one_architecture_alone(setup_py, monkeypatch, tmp_path):
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PIXELSR_CUDA_ARCHITECTURES", "sm_90a")
    flags = setup_py["cuda_extension"]().extra_compile_args["nvcc"]
    chosen = [flag for flag in flags if "arch" in flag]
    assert chosen == ["-gencode=arch=compute_90a,code=sm_90a"]


@in_source_tree
def test_a_python_that_has_torch_is_used_as_it_is():
    """Check that `make` creates no .venv, which might not see the installed packages."""
    say = ["make", "--dry-run", "--always-make", "SYSTEM_TORCH=1", f"PYTHON={sys.executable}"]
    done = subprocess.run([*say, "venv", "test"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    install = f"{sys.executable} -m pip install --quiet --disable-pip-version-check --no-deps"
    assert install in done.stdout
    assert f"{sys.executable} -m pytest" in done.stdout
    assert "-m venv" not in done.stdout
    assert "constraints" not in done.stdout


ON_A_GPU = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ImportError(f"{{name}} is not in the image")

sys.meta_path.insert(0, Blocked())
for name in {modules}:
    importlib.import_module(name)
"""
"""A script that imports modules while packages are missing."""


UNNEEDED = ("tomlkit", "torchmetrics", "matplotlib", "datasets", "tensorboard")
PACKAGE = ("pixelsr", "pixelsr.sampling", "pixelsr.bench", "pixelsr.training")


def modules_of(package, pattern):
    folder = ROOT / package.rpartition(".")[2]
    paths = [path.relative_to(folder).with_suffix("") for path in sorted(folder.rglob(pattern))]
    return [f"{package}.{'.'.join(path.parts)}" for path in paths]


@in_source_tree
@pytest.mark.parametrize(
    ("modules", "packages"),
    [
        (PACKAGE, (*UNNEEDED, "rich", "click")),
        (modules_of("pixelsr.kernels", "[a-z]*.py"), (*UNNEEDED, "rich", "click")),
        (modules_of("benchmarks", "[a-mo-z]*.py"), UNNEEDED),  # netket* need packages of their own
        (["pixelsr.cli.doctor"], ("tomlkit", "matplotlib", "datasets", "tensorboard")),
    ],
    ids=["the package", "kernels", "benchmarks", "doctor"],
)
def test_what_a_gpu_needs_asks_for_few_packages(modules, packages):
    pytest.importorskip("triton")
    run(ON_A_GPU.format(packages=packages, modules=modules))


@pytest.mark.parametrize("has_links", [True, False])
def test_a_tree_that_was_unpacked_without_links_has_its_triton_kernels_too(tmp_path, has_links):
    """pip unpacks a zip archive without links: a link becomes a text file."""
    for name in ("pixelsr", "kernels"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    if not has_links:
        (tmp_path / "pixelsr" / "kernels").unlink()
        (tmp_path / "pixelsr" / "kernels").write_text("../kernels")
    environment = {**os.environ, "PIXELSR_NO_EXTENSION": "1"}
    command = [sys.executable, "setup.py", "-q", "build_py", "-d", "built"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    built = tmp_path / "built" / "pixelsr"
    for path in (ROOT / "kernels").rglob("*.py"):
        assert (built / "kernels" / path.relative_to(ROOT / "kernels")).is_file()
    assert not (tmp_path / "built" / "kernels").exists()
