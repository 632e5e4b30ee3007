"""Builds the C++ kernels, where there is a compiler; all else about the package is in pyproject."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup


def say_why_not(reason: object) -> None:
    print(f"pixelsr is installed without its C++ kernels: {reason}", file=sys.stderr)


def why_no_extension() -> str | None:
    """The reason why the C++ kernels cannot, or shall not, be built here; None where they can."""
    if os.environ.get("PIXELSR_NO_EXTENSION") == "1":
        return "PIXELSR_NO_EXTENSION=1"
    try:
        import torch  # noqa: F401
    except ImportError:
        return "torch is not installed in the build environment (use pip's --no-build-isolation)"
    compiler = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler {compiler!r} here"
    return None


def extension() -> dict[str, object]:
    """The arguments of `setup` that build pixelsr/_C.abi3.so, good for every later Python."""
    from setuptools.errors import CCompilerError
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    class BuildIfPossible(BuildExtension):
        """Goes on without the kernels where the compiler fails: the package works without them."""

        def build_extensions(self) -> None:
            try:
                super().build_extensions()
            # Of setuptools; of torch's ninja; of torch asking the compiler for its version.
            except (CCompilerError, RuntimeError, subprocess.CalledProcessError) as error:
                say_why_not(f"the compiler failed: {error}")

    flags = ["-O3", "-fvisibility=hidden", "-Wall", "-Wextra"]
    sanitizers = []
    if os.environ.get("PIXELSR_SANITIZE") == "1":  # see `make sanitize`
        sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    module = CppExtension(
        "pixelsr._C",
        sorted(str(path) for path in Path("csrc/cpu").glob("*.cpp")),
        depends=sorted(str(path) for path in Path("csrc").rglob("*.h")),
        include_dirs=[str(Path("csrc").absolute())],
        # The oldest torch (2.10) whose stable ABI the kernels may use.
        define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000")],
        extra_compile_args=[*flags, *sanitizers],
        extra_link_args=sanitizers,
        py_limited_api=True,
        optional=True,  # or what was not built would be missed when it is copied
    )
    return {
        "ext_modules": [module],
        "cmdclass": {"build_ext": BuildIfPossible},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


why_not = why_no_extension()
if why_not:
    say_why_not(why_not)

setup(
    packages=[*find_packages(include=["pixelsr", "pixelsr.*"]), "pixelsr.kernels"],
    package_dir={"pixelsr": "pixelsr", "pixelsr.kernels": "kernels"},
    package_data={"pixelsr": ["weights/**", "samples/**"]},
    **({} if why_not else extension()),
)
