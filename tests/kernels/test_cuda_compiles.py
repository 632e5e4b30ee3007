"""Tests that the CUDA kernel compiles for GPUs that need not be present, within their resources."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths

from pixelsr.utils.atomic_write import write_whole
from tests.support.emulator.build import FOLDER, ROOT, hash_of
from tests.support.helpers import slow

NVCC = shutil.which("nvcc")
pytestmark = pytest.mark.skipif(NVCC is None, reason="there is no nvcc")

REGISTERS = 65536 // 256
"""Registers per thread, with one block of 256 threads on a multiprocessor."""
ARCHITECTURES = {"sm_80": "compute_80", "sm_90a": "compute_90a"}
KERNELS = {f"{dtype}, {8 * tiles} samples" for dtype in ("half", "bfloat16") for tiles in (1, 2)}


@pytest.fixture(scope="module", params=[slow("sm_80"), "sm_90a"])
def cubin(request):
    """Return the machine code for one architecture, and the assembler's report.

    The half minute that it takes is spent again only after a change.
    """
    source = ROOT / "csrc/cuda/launch.cu"
    command = [str(NVCC), "-cubin", "-O3", "-std=c++17", "-Xptxas=-v", "-DUSE_CUDA"]
    command += ["-DTORCH_TARGET_VERSION=0x020a000000000000", f"-I{ROOT / 'csrc'}"]
    command += [f"-I{path}" for path in include_paths()]
    command += [f"-gencode=arch={ARCHITECTURES[request.param]},code={request.param}", str(source)]
    version = subprocess.check_output([str(NVCC), "--version"], text=True)
    out = FOLDER / f"{request.param}-{hash_of([source], [*command, version])}.cubin"
    report = out.with_suffix(".txt")
    if not report.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        write_whole(report, done.stderr.encode())
    return out, report.read_text()


@pytest.fixture(scope="module")
def sass(cubin):
    """Return the machine instructions of each kernel."""
    tools = Path(pytest.importorskip("triton").__file__).parent / "backends/nvidia/bin"
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:{tools}"}
    command = [str(tools / "cuobjdump"), "-sass", str(cubin[0])]
    code = subprocess.check_output(command, env=environment, text=True)
    return re.split(r"Function : ", code)[1:]


def name_of(mangled: str) -> str:
    dtype = "bfloat16" if "nv_bfloat16" in mangled else "half"
    tiles = int(re.search(r"Li(\d)E", mangled)[1])
    return f"{dtype}, {8 * tiles} samples"


def test_every_kernel_is_there_and_spills_no_register(cubin):
    _, said = cubin
    found = re.findall(
        r"Compiling entry function '(\S+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers",
        said,
        re.DOTALL,
    )
    assert {name_of(mangled) for mangled, *_ in found} == KERNELS
    for mangled, *spilled, registers in found:
        assert spilled == ["0", "0", "0"], name_of(mangled)
        assert int(registers) < REGISTERS
        print(name_of(mangled), registers, "registers")
    of_all = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes", said)
    assert set(of_all) == {("0", "0", "0")}  # also for functions that the kernels call


def test_it_multiplies_matrices_and_loads_asynchronously(sass):
    assert {name_of(kernel.split(maxsplit=1)[0]) for kernel in sass} == KERNELS
    for kernel in sass:
        assert kernel.count("HMMA.16816.F32") >= 17  # 2x8 for a row, 1 or 2 for a pixel
        assert "LDGSTS" in kernel  # asynchronous copies
        assert "DFMA" in kernel  # the noise computes its logarithms in double


def test_clusters_wait_for_each_other_where_there_are_clusters(sass, cubin):
    has_clusters = "sm_90" in cubin[0].name
    assert all(("UCGABAR_ARV" in kernel) == has_clusters for kernel in sass)


def test_the_sizes_of_a_paper_s_network_fit_the_shared_memory_of_both():
    from pixelsr import PixelRecursiveSR, sampling
    from pixelsr.sampling.engines.cuda.memory_layout import Cut
    from pixelsr.sampling.engines.cuda.program import fits, lay_out

    plan = sampling.plan(PixelRecursiveSR(), (32, 32), (8, 8))
    for shared in (163 * 1024, 227 * 1024):
        for eights in (1, 2):
            cut = Cut(torch.bfloat16, eights, 1, shared)
            assert fits(plan, cut)
            assert lay_out(plan, cut).has_operand_windows() == (eights == 1 or shared > 200_000)
