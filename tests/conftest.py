"""Settings and fixtures for all tests.

Without a GPU, Triton kernels run under the interpreter; this must be set before any is imported.
Parallel test workers share the processors, as do the processes that they start.
"""

import dataclasses
import functools
import importlib.util
import os

import pytest
import torch

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    threads = max(1, torch.get_num_threads() // WORKERS)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def quicken_interpreter():
    """Cache a lookup that Triton's interpreter repeats at every call of a function.

    At each call, the interpreter goes through all members of `triton.language` to replace the
    builtin ones; the names that it finds never change.
    """
    from triton.language.core import is_builtin
    from triton.runtime import interpreter

    @functools.cache
    def names(package):
        return [name for name in dir(package) if is_builtin(getattr(package, name))]

    def patch_builtin(package, builder, scope):
        for name in names(package):
            member = getattr(package, name)
            if is_builtin(member):
                interpreter._patch_attr(package, name, member, builder, scope)

    interpreter._patch_builtin = patch_builtin


if importlib.util.find_spec("triton"):
    quicken_interpreter()


@pytest.fixture
def quick_interpreter(monkeypatch):
    """Turn off the interpreter's checks for 32-bit overflow of sums, which take half its time."""
    from triton.runtime.interpreter import interpreter_builder

    options = dataclasses.replace(interpreter_builder.options, sanitize_overflow=False)
    monkeypatch.setattr(interpreter_builder, "options", options)


@pytest.fixture(scope="module")
def one_thread():
    """Use one thread, because more threads only slow down small work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def ieee():
    """Turn TF32 off in PyTorch's convolutions, which otherwise may use it on a GPU."""
    switch = torch.backends.cudnn.conv
    before, switch.fp32_precision = switch.fp32_precision, "ieee"
    yield
    switch.fp32_precision = before


@pytest.fixture
def own_class(monkeypatch):
    """Register the model classes that a test defines, and forget them after the test."""
    from pixelsr.models import base

    monkeypatch.setattr(base, "_classes", dict(base._classes))
