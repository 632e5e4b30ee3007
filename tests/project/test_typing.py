"""Tests of what a user's type checker sees of an installed package."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("mypy")

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not in a source tree")

USER = """
import pixelsr
from pixelsr import PixelRecursiveSR
from typing_extensions import assert_type

model = pixelsr.GatedPixelCNN(channels=8, layers=2)
assert_type(model, pixelsr.GatedPixelCNN)
assert_type(model.levels, int)
assert_type(PixelRecursiveSR.from_pretrained("faces-8x32"), PixelRecursiveSR)
pixelsr.RowLSTM(skip=True, scale_factor=2)
pixelsr.nn.MaskedConv2d(3, 64, (5, 7), mask_type="A", padding="same", dtype=None)
pixelsr.sample(model, 2, image_size=(8, 8), temperature=0.5)
assert_type(pixelsr.check_causality(model, (3, 3)).colors, int)
adapted = pixelsr.adapt(model, colors=1, levels=4, inputs="unit", outputs=lambda y: y[0])
assert_type(adapted.levels, int)

pixelsr.GatedPixelCNN(chanels=8)  # call-arg
pixelsr.GatedPixelCNN(layers="2")  # arg-type
pixelsr.GatedPixelCNN(8)  # call-arg
pixelsr.nn.MaskedConv2d(3, 64, 7, "A")  # call-arg
pixelsr.nn.MaskedConv2d(3, 64, 7, mask_type="C")  # arg-type
pixelsr.functional.masked_conv2d(None, None, mask_type="C")  # arg-type
pixelsr.sample(model, image_size=8)  # arg-type
pixelsr.sample(model, sead=1)  # call-arg
pixelsr.adapt(model, colors=1, levels=4, inputs="floats", outputs="levels")  # arg-type
pixelsr.PixelCNNN()  # attr-defined
"""
"""The code of a user: a comment names the error that mypy finds in its line."""
WITH_TORCH = """
import pixelsr
import torch
from typing_extensions import assert_type

model = pixelsr.PixelCNN()
images = pixelsr.sample(model, 2, image_size=(8, 8))
assert_type(images, torch.Tensor)
assert_type(model.loss(images), torch.Tensor)
assert_type(pixelsr.nn.MaskedConv2d(3, 6, 3, mask_type="A").weight, torch.Tensor)
model.nll([images])  # arg-type
pixelsr.sample(model, low_res="small.png")  # arg-type
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return a copy of the source tree without its weights and its compiled parts."""
    tree = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    left_out = shutil.ignore_patterns("__pycache__", "*.so", "weights", "samples")
    for name in ("pixelsr", "kernels"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=left_out)
    return tree


def run(*command, cwd):
    hidden = ("PYTHONPATH", "MYPYPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**environment, "PIXELSR_NO_EXTENSION": "1"},
        capture_output=True,
        text=True,
    )


def install(how, source, folder):
    """Return the Python of a new environment that holds the package alone."""
    build = f"from setuptools import build_meta; print(build_meta.{how}({str(folder)!r}))"
    done = run("-c", build, cwd=source)
    assert done.returncode == 0, done.stderr
    venv.create(folder / "venv", with_pip=False)
    (wheel,) = folder.glob("*.whl")
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    return folder / "venv" / "bin" / "python"


def check(code, python, cwd):
    """Check that mypy finds in a user's code the errors that its comments name, and no others."""
    (cwd / "user.py").write_text(code)
    done = run("-m", "mypy", "--strict", "--python-executable", python, "user.py", cwd=cwd)
    found = re.findall(r"^user\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    lines = enumerate(code.splitlines(), 1)
    expected = [(str(n), line.partition("# ")[2]) for n, line in lines if "# " in line]
    assert found == expected, done.stdout + done.stderr


INSTALLS = pytest.mark.parametrize("how", ["build_wheel", "build_editable"])


@INSTALLS
def test_a_type_checker_sees_the_installed_package(how, source, tmp_path):
    check(USER, install(how, source, tmp_path), tmp_path)


@pytest.mark.slow
@INSTALLS
def test_a_type_checker_sees_tensors_of_the_installed_package(how, source, tmp_path):
    python = install(how, source, tmp_path)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "torch.pth").write_text(sysconfig.get_path("purelib"))
    check(WITH_TORCH, python, tmp_path)
