"""Compile Triton kernels for a GPU that need not be present, and read the resources they use.

`resources_of` compiles in its own process, because compiling needs kernels without the interpreter.
"""

import dataclasses
import importlib
import json
import re
import subprocess
import tempfile
from pathlib import Path

from tests.support.processes import run

MOST_SHARED = {80: 163 * 1024, 90: 227 * 1024}
"""The bytes of shared memory available to a block, by compute capability."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One kernel to compile.

    Attributes:
        module, kernel: the kernel's module and its name.
        signature: types of the arguments, in Triton's notation.
        constexprs: values; dtypes as "fp32", "int64" and so on.
        aligned: names of arguments that are multiples of 16.
    """

    module: str
    kernel: str
    signature: dict
    constexprs: dict
    capability: int
    num_warps: int = 4
    num_stages: int = 3
    aligned: tuple = ()


def resources(module, kernel, signature, constexprs, capability, num_warps=4):
    """Return the resources of one kernel; see `resources_of`."""
    return resources_of([Job(module, kernel, signature, constexprs, capability, num_warps)])[0]


def resources_of(jobs):
    """Return the resources that each kernel uses, by name.

    REG, STACK, LOCAL: registers, bytes of stack and bytes of spilled registers, per thread. SHARED:
    bytes per block. MMA, WGMMA, ASYNC: the numbers of matrix instructions of either kind, and of
    asynchronous loads, in the code. WIDE: the names of pointers that 64-bit offsets are added to.
    """
    done = run(_print_resources, list(jobs), environment={"TRITON_INTERPRET": "0"})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _print_resources(jobs):
    print(json.dumps([_compile(job) for job in jobs]))


def _compile(job):
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(importlib.import_module(job.module), job.kernel)
    names = function.arg_names
    dtypes = {"fp32": tl.float32, "fp16": tl.float16, "bf16": tl.bfloat16}
    dtypes |= {"int32": tl.int32, "int64": tl.int64}
    constexprs = {
        k: dtypes.get(v, v) if isinstance(v, str) else v for k, v in job.constexprs.items()
    }
    types = {**job.signature, **dict.fromkeys(constexprs, "constexpr")}
    aligned = [name for name in job.aligned if name not in constexprs]
    source = ASTSource(
        fn=function,
        signature={name: types[name] for name in names},
        constexprs=constexprs,
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    target = GPUTarget("cuda", job.capability, 32)
    options = {"num_warps": job.num_warps, "num_stages": job.num_stages}
    compiled = triton.compile(source, target=target, options=options)
    ptx = compiled.asm["ptx"]
    return {
        **_usage(triton, compiled.asm["cubin"]),
        "SHARED": compiled.metadata.shared,
        "MMA": ptx.count("mma.sync"),
        "WGMMA": ptx.count("wgmma.mma_async"),
        "ASYNC": ptx.count("cp.async.c"),
        "WIDE": _wide(compiled.asm["ttir"]),
    }


def _usage(triton, cubin):
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.check_output([cuobjdump, "-res-usage", file.name], text=True)
    return {name: int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK", "LOCAL")}


def _wide(ttir):
    """Return the arguments that 64-bit offsets are added to, also through splats and broadcasts."""
    origin, found = {}, set()
    for line in ttir.splitlines():
        if made := re.match(
            r"\s*(%\S+) = tt\.(addptr|splat|broadcast|expand_dims) (%[\w-]+)", line
        ):
            name, what, source = made.groups()
            origin[name] = origin.get(source, source)
            if what == "addptr" and re.search(r"i64>?(?: loc\(.*)?$", line):
                found.add(origin[name].lstrip("%"))
    return sorted(found)
