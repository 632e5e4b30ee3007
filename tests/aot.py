"""Compiles a Triton kernel for a GPU that need not be there, and reads what it will use.

Run as a command by `resources`, in a process of its own: compiling needs the kernel as it is
without the interpreter.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def resources(module, kernel, signature, constexprs, capability, num_warps=4):
    """Registers, stack and local (spilled) bytes a thread, shared bytes a block, by their names."""
    request = json.dumps([module, kernel, signature, constexprs, capability, num_warps])
    environment = {name: os.environ[name] for name in os.environ if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, __file__, request], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _compile(module, kernel, signature, constexprs, capability, num_warps):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(importlib.import_module(module), kernel)
    signature = {**signature, **dict.fromkeys(constexprs, "constexpr")}
    compiled = triton.compile(
        ASTSource(fn=function, signature=signature, constexprs=constexprs),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": num_warps},
    )
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.check_output([cuobjdump, "-res-usage", file.name], text=True)
    found = {name: int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK", "LOCAL")}
    return {**found, "SHARED": compiled.metadata.shared}


if __name__ == "__main__":
    print(json.dumps(_compile(*json.loads(sys.argv[1]))))
