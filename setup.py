"""Builds the C++ and CUDA kernels, where there are compilers; all else is in pyproject."""

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


def find_toolkit() -> None:
    """Tell torch where CUDA is, where an nvcc on the PATH is a script that calls another one."""
    nvcc = shutil.which("nvcc")
    if nvcc is None or {"CUDA_HOME", "CUDA_PATH"} & os.environ.keys():
        return
    for home in (Path(nvcc).resolve().parent.parent, Path("/usr/local/cuda")):
        if (home / "include" / "cuda_runtime.h").exists():
            os.environ["CUDA_HOME"] = str(home)
            return


def why_no_cuda() -> str | None:
    """The reason why the CUDA kernels are not built where the C++ ones are; None where they are."""
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
    """What both extensions are given."""
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

    flags = ["-O3", "-fvisibility=hidden", "-Wall", "-Wextra"]
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


# Code for Ampere and what is like it, and for Hopper. Later ones compile what is for Hopper, whose
# clusters they have.
ARCHITECTURES = "sm_80 sm_90a compute_90"


def architectures() -> list[str]:
    """nvcc's flags; PIXELSR_CUDA_ARCHITECTURES may name others: one is compiled in a third of the
    time that three take."""
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
    """The kernels that can be built here."""
    without_cuda = why_no_cuda()
    if without_cuda:
        say_why_not("CUDA", without_cuda)
    return [cpp_extension(), *([] if without_cuda else [cuda_extension()])]


def building() -> dict[str, object]:
    """The arguments of `setup` that build libraries which are good for every later Python."""
    find_toolkit()  # before torch looks, when it is imported
    from setuptools.errors import CCompilerError
    from torch.utils.cpp_extension import BuildExtension

    # Of setuptools; of torch's ninja, and of a CUDA that torch was not built for; of what cannot be
    # started; of torch asking a compiler for its version.
    errors = (CCompilerError, RuntimeError, OSError, subprocess.CalledProcessError)

    class BuildIfPossible(BuildExtension):
        """Goes on without the kernels where a compiler fails: the package works without them."""

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


why_not = why_no_extension()
if why_not:
    say_why_not("C++", why_not)

setup(
    packages=[
        *find_packages(include=["pixelsr", "pixelsr.*"]),
        *(f"pixelsr.{name}" for name in find_packages(include=["kernels", "kernels.*"])),
    ],
    package_dir={"pixelsr": "pixelsr", "pixelsr.kernels": "kernels"},
    package_data={"pixelsr": ["py.typed", "ops/*.json", "weights/**", "samples/**"]},
    **({} if why_not else building()),
)
