"""The build of the C++ and CUDA kernels, if there are compilers; pyproject has the rest."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup


def say_why_not(language: str, reason: object) -> None:
    print(f"pixelsr is installed without its {language} kernels: {reason}", file=sys.stderr)


def why_no_extension() -> str | None:
    """Return why the C++ kernels are not built here, or None if they are."""
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


def find_toolkit() -> None:
    """Tell torch where CUDA is, also if the nvcc on the PATH is a script that calls another."""
    nvcc = shutil.which("nvcc")
    if nvcc is None or {"CUDA_HOME", "CUDA_PATH"} & os.environ.keys():
        return
    for home in (Path(nvcc).resolve().parent.parent, Path("/usr/local/cuda")):
        if (home / "include" / "cuda_runtime.h").exists():
            os.environ["CUDA_HOME"] = str(home)
            return


def why_no_cuda() -> str | None:
    """Return why the CUDA kernels are not built beside the C++ ones, or None if they are."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    if torch.version.cuda is None:
        return "this torch is built for the CPU only"
    if CUDA_HOME is None:
        return "no CUDA toolkit was found; nvcc has to be on the PATH, or CUDA_HOME to be set"
    if not (Path(CUDA_HOME) / "bin" / "nvcc").exists():
        return f"there is no nvcc in {CUDA_HOME}/bin"
    return None


def common() -> dict[str, Any]:
    """Return the arguments that both extensions share."""
    return {
        "depends": sorted(str(path) for path in Path("csrc").rglob("*.h")),
        "include_dirs": [str(Path("csrc").absolute())],
        # The oldest torch (2.10) whose stable ABI the kernels may use.
        "define_macros": [("TORCH_TARGET_VERSION", "0x020a000000000000")],
        "py_limited_api": True,
        "optional": True,  # or what was not built would be missed when it is copied
    }


def cpp_extension() -> Any:
    """pixelsr/_C.abi3.so"""
    from torch.utils.cpp_extension import CppExtension

    flags = ["-O3", "-fno-math-errno", "-fvisibility=hidden"]
    flags += ["-Wall", "-Wextra", "-Werror=switch"]
    sanitizers = []
    if os.environ.get("PIXELSR_SANITIZE") == "1":  # see `make sanitize`
        sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    return CppExtension(
        "pixelsr._C",
        sorted(str(path) for path in Path("csrc/cpu").rglob("*.cpp")),
        extra_compile_args=[*flags, *sanitizers],
        extra_link_args=sanitizers,
        **common(),
    )


# Code for Ampere and similar GPUs, and for Hopper. Later GPUs, which have clusters too, compile the
# code for Hopper.
ARCHITECTURES = "sm_80 sm_90a compute_90"


def architectures() -> list[str]:
    """Return the flags of nvcc for `ARCHITECTURES`, or for PIXELSR_CUDA_ARCHITECTURES."""
    names = os.environ.get("PIXELSR_CUDA_ARCHITECTURES") or ARCHITECTURES
    return [f"-gencode=arch=compute_{name.partition('_')[2]},code={name}" for name in names.split()]


def cuda_extension() -> Any:
    """pixelsr/_C_cuda.abi3.so"""
    from torch.utils.cpp_extension import CUDAExtension

    given = common()
    given["define_macros"].append(("USE_CUDA", None))
    nvcc = ["-O3", "-std=c++17", "-Xcompiler=-fvisibility=hidden"]
    return CUDAExtension(
        "pixelsr._C_cuda",
        sorted(str(path) for path in Path("csrc/cuda").glob("*.cu")),
        extra_compile_args={"nvcc": [*nvcc, *architectures()]},
        **given,
    )


def extensions() -> list[Any]:
    """Return the extensions that can be built here."""
    without_cuda = why_no_cuda()
    if without_cuda:
        say_why_not("CUDA", without_cuda)
    return [cpp_extension(), *([] if without_cuda else [cuda_extension()])]


def building() -> dict[str, object]:
    """Return the arguments of `setup` that build libraries for this and every later Python."""
    find_toolkit()  # before torch looks, when it is imported
    from setuptools.errors import CCompilerError
    from torch.utils.cpp_extension import BuildExtension

    # CCompilerError comes from setuptools, RuntimeError from torch's ninja or a CUDA that torch was
    # not built for, OSError from a program that cannot be started, CalledProcessError from a
    # compiler that torch asks for its version.
    errors = (CCompilerError, RuntimeError, OSError, subprocess.CalledProcessError)

    class BuildIfPossible(BuildExtension):
        """A build that goes on without the kernels if a compiler fails."""

        def build_extensions(self) -> None:
            every = self.extensions
            for extension in every:
                language = "CUDA" if extension.name.endswith("_cuda") else "C++"
                self.extensions = [extension]  # so that one does without the other
                try:
                    super().build_extensions()
                except errors as error:
                    say_why_not(language, f"the compiler failed: {error}")
            self.extensions = every

    return {
        "ext_modules": extensions(),
        "cmdclass": {"build_ext": BuildIfPossible},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


# The weights and the card of a bundled model, without the logs of its training.
WEIGHTS = [f"weights/*/*.{kind}" for kind in ("safetensors", "json", "toml", "md", "png")]

why_not = why_no_extension()
if why_not:
    say_why_not("C++", why_not)

# An editable install of this is a path in a .pth file, which type checkers follow; with an entry
# for each package it would be an import hook, which they do not.
package_dir = {"": "."}
packages = find_packages(include=["pixelsr", "pixelsr.*"])
if not os.path.isdir("pixelsr/kernels"):  # the link, in a tree that was unpacked without links
    package_dir["pixelsr.kernels"] = "kernels"
    packages += [f"pixelsr.{name}" for name in find_packages(include=["kernels", "kernels.*"])]

setup(
    packages=packages,
    package_dir=package_dir,
    package_data={"pixelsr": ["py.typed", "ops/*.json", *WEIGHTS, "samples/**"]},
    **({} if why_not else building()),
)
